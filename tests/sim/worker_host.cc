#include "tests/sim/worker_host.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "common/status/macros.h"
#include "worker/agent/identity.h"

namespace studio::sim {
namespace {

constexpr char kStateDir[] = "/state";
constexpr char kJournal[] = "/state/journal";
// Little, so that a run rewrites it often.
constexpr int64_t kCompactBytes = 4 << 10;
constexpr char kBootIdFolder[] = "/proc/sys/kernel/random";

v1::Inventory InventoryOf(int devices) {
  v1::Inventory inventory;
  inventory.set_arch(v1::X86_64);
  inventory.set_backend(v1::CPU);
  inventory.set_needs_data(true);
  for (int i = 0; i < devices; ++i) {
    v1::Device& device = *inventory.add_devices();
    device.set_id(absl::StrCat("cpu:", i));
    device.set_backend(v1::CPU);
    device.set_total_memory_bytes(int64_t{64} << 30);
    device.set_allocatable_memory_bytes(int64_t{64} << 30);
  }
  return inventory;
}

}  // namespace

WorkerHost::WorkerHost(Engine& engine, History& history, ControllerHost& controller, uint64_t seed, int number,
                       int devices, const std::map<std::string, JobScript>& scripts)
    : engine_(engine),
      history_(history),
      controller_(controller),
      seed_(seed),
      name_(absl::StrCat("w", number)),
      devices_(devices),
      random_(seed, name_),
      clock_(engine, 1 + static_cast<double>(random_.Between(-20, 20)) / 1000),
      cable_(seed, name_),
      ranks_(engine, history, files_, process_, absl::StrCat(name_, "-", absl::Hex(number, absl::kZeroPad8)), seed,
             scripts) {
  process_.on_crash = [this] { AgentDies(/*by_itself=*/false); };
}

void WorkerHost::Boot() {
  if (lost_) return;
  ++boots_;
  files_.StopFailing();
  STUDIO_CHECK(files_.MakeFolders(kBootIdFolder).ok() && files_.MakeFolders(kStateDir).ok());
  STUDIO_CHECK(
      files_.WriteFile(absl::StrCat(kBootIdFolder, "/boot_id"), absl::StrCat("boot-", name_, "-", boots_)).ok());
  starting_ = true;
  StartAgent();
}

void WorkerHost::StartAgent() {
  if (lost_ || process_.alive) return;
  // The lock that every rank holds.
  if (ranks_.any()) {
    engine_.After(absl::Milliseconds(50), nullptr, [this, boot = boots_] {
      if (boot == boots_) StartAgent();
    });
    return;
  }
  starting_ = false;
  process_.Begin();
  engine_.At(engine_.now(), &process_, [this] {
    const auto start = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(const worker::Identity identity,
                       worker::StartIdentity(disk_, kStateDir, name_, static_cast<uint64_t>(name_[1] - '0')));
      ASSIGN_OR_RETURN(journal_, worker::Journal::Open(disk_, kJournal, kCompactBytes));
      history_.Note(absl::StrCat(identity.worker_id, " starts, incarnation ", identity.incarnation));
      worker::Agent::Options options;
      options.seed = random_.Next();
      options.drain_grace = absl::Seconds(20);
      v1::Hello& hello = options.hello;
      hello.set_min_protocol(1);
      hello.set_max_protocol(1);
      hello.set_worker_id(identity.worker_id);
      hello.set_incarnation(identity.incarnation);
      hello.set_boot_id(identity.boot_id);
      hello.set_earlier_ranks_dead(true);
      *hello.mutable_inventory() = InventoryOf(devices_);
      loop_ = std::make_unique<SimLoop>(engine_, process_, clock_, [this, life = process_.life] {
        if (process_.life == life) AgentDies(/*by_itself=*/true);
      });
      artifacts_ = std::make_unique<SimArtifacts>(engine_, process_, disk_, cable_, controller_);
      const auto make_link = [&](worker::ControllerLink::Callbacks callbacks) {
        const auto on_send = [this, id = identity.worker_id](const v1::WorkerUp& up) {
          if (up.has_attempt() || up.has_checkpoint()) history_.Said(id, up, disk_.Durable(kJournal));
        };
        auto link = std::make_unique<SimLink>(engine_, history_, identity.worker_id, cable_, process_, controller_,
                                              on_send, std::move(callbacks));
        link_ = link.get();
        return link;
      };
      const worker::Machine machine{.loop = *loop_,
                                    .background = *artifacts_,
                                    .env = disk_,
                                    .ranks = ranks_,
                                    .artifacts = *artifacts_,
                                    .worker_id = identity.worker_id,
                                    .state_dir = kStateDir,
                                    .shared_roots = {},
                                    .trainer = "trainer",
                                    .dataprep = "prep",
                                    .inventory = InventoryOf(devices_)};
      agent_ = std::make_unique<worker::Agent>(options, machine, *journal_, make_link);
      agent_->Start();
      return absl::OkStatus();
    };
    if (const absl::Status status = start(); !status.ok()) AgentDies(/*by_itself=*/true);
  });
}

void WorkerHost::AgentDies(bool by_itself) {
  if (!process_.alive) return;
  history_.Note(absl::StrCat(name_, "'s agent ", by_itself ? "ends" : "is dead"));
  disk_.CrashNoMore();
  if (link_ != nullptr) link_->Abandon(/*silently=*/!by_itself && random_.Chance(20));
  link_ = nullptr;
  process_.Kill();
  // Not from within its own call. Its destructor's last orders reach nobody.
  engine_.At(engine_.now(), nullptr,
             [agent = std::shared_ptr<worker::Agent>(std::move(agent_)),
              journal = std::shared_ptr<worker::Journal>(std::move(journal_)),
              loop = std::shared_ptr<SimLoop>(std::move(loop_)),
              artifacts = std::shared_ptr<SimArtifacts>(std::move(artifacts_))]() mutable { agent.reset(); });
  ranks_.LoseAgent();
  Restart(random_.Ms(100, 5000));
}

void WorkerHost::Restart(absl::Duration after) {
  if (std::exchange(starting_, true)) return;
  engine_.After(after, nullptr, [this, boot = boots_] {
    if (boot == boots_) StartAgent();
  });
}

void WorkerHost::Suffer(const Fault& fault) {
  const absl::Time until = engine_.now() + fault.length;
  const bool lives = process_.alive;
  switch (fault.kind) {
    case FaultKind::kBreakStream:
      if (lives && link_ != nullptr) link_->Break();
      break;
    case FaultKind::kPartition:
      cable_.up_blocked_until = std::max(cable_.up_blocked_until, until);
      cable_.down_blocked_until = std::max(cable_.down_blocked_until, until);
      break;
    case FaultKind::kPartitionUp:
      cable_.up_blocked_until = std::max(cable_.up_blocked_until, until);
      break;
    case FaultKind::kPartitionDown:
      cable_.down_blocked_until = std::max(cable_.down_blocked_until, until);
      break;
    case FaultKind::kSlowNetwork:
      cable_.slow = true;
      engine_.At(until, nullptr, [this] { cable_.slow = false; });
      break;
    case FaultKind::kDuplicate:
      cable_.duplicates = true;
      engine_.At(until, nullptr, [this] { cable_.duplicates = false; });
      break;
    case FaultKind::kCrashAgent:
      AgentDies(/*by_itself=*/false);
      break;
    case FaultKind::kCrashAgentAtPoint:
      if (lives) disk_.CrashAt(fault.detail % 12, fault.detail % 2 == 0);
      break;
    case FaultKind::kReboot:
    case FaultKind::kLoseMachine:
      lost_ = lost_ || fault.kind == FaultKind::kLoseMachine;
      AgentDies(/*by_itself=*/false);
      ranks_.VanishAll();
      files_.Crash(fault.detail % 20);
      ++boots_;
      starting_ = false;
      engine_.After(random_.Ms(1000, 20'000), nullptr, [this, boot = boots_] {
        if (boot == boots_) Boot();
      });
      break;
    case FaultKind::kPauseAgent:
      process_.paused_until = std::max(process_.paused_until, until);
      break;
    case FaultKind::kSuspendMachine:
      process_.paused_until = std::max(process_.paused_until, until);
      ranks_.Pause(until);
      engine_.At(until, nullptr, [this, fault] { clock_.Sleep(fault.length); });
      break;
    case FaultKind::kJumpWallClock:
      clock_.SetWallClock(absl::Seconds(fault.detail % 100'000 - 50'000));
      break;
    case FaultKind::kKillRank:
      ranks_.KillOne(fault.detail);
      break;
    case FaultKind::kWorkerDiskFull:
      files_.FailAfter(static_cast<int>(fault.detail % 5), absl::ResourceExhaustedError("disk full"));
      engine_.At(until, nullptr, [this] { files_.StopFailing(); });
      break;
    case FaultKind::kWorkerDiskSlow:
      // One thread: while a change takes long, nothing else happens in the agent.
      process_.paused_until = std::max(process_.paused_until, engine_.now() + absl::Milliseconds(fault.detail % 2000));
      break;
    case FaultKind::kDrain:
      if (lives)
        engine_.At(engine_.now(), &process_, [this] {
          if (agent_ != nullptr) agent_->Drain();
        });
      break;
    default:
      STUDIO_CHECK(false) << "not a worker's fault: " << FaultName(fault.kind);
  }
}

void WorkerHost::Heal() {
  cable_.slow = cable_.duplicates = false;
  files_.StopFailing();
  disk_.CrashNoMore();
}

void WorkerHost::TurnOff() {
  process_.Kill();
  ranks_.VanishAll();
  agent_.reset();
}

int64_t WorkerHost::journal_bytes() { return files_.FileSize(kJournal).value_or(0); }

}  // namespace studio::sim
