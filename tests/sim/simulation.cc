#include "tests/sim/simulation.h"

#include <algorithm>
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "tests/sim/client.h"
#include "tests/sim/controller_host.h"
#include "tests/sim/engine.h"
#include "tests/sim/history.h"
#include "tests/sim/sim_artifacts.h"
#include "tests/sim/worker_host.h"

namespace studio::sim {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'000'000'000);
// Journals are rewritten when they have grown to twice of what matters.
constexpr int64_t kMaxJournalBytes = 128 << 10;

// Of two machines that are gone for good, one is vouched for: its jobs need not wait for the fence.
void ConfirmDead(ControllerHost& controller, History& history, int worker) {
  if (!controller.process().alive) return;
  const std::string id = absl::StrCat("w", worker, "-", absl::Hex(worker, absl::kZeroPad8));
  controller.Run([&controller, &history, id] {
    controller.loop().ConfirmDead("local", id, [&history, id](const absl::StatusOr<v1::WorkerRecord>& record) {
      history.Note(absl::StrCat("somebody confirms that ", id, " is dead: ", record.status().ToString()));
    });
  });
}

void Happen(const Fault& fault, std::vector<std::unique_ptr<WorkerHost>>& workers, ControllerHost& controller,
            Engine& engine, History& history) {
  StoreDisk& store = controller.disk();
  switch (fault.kind) {
    case FaultKind::kCrashController:
      return controller.Kill();
    case FaultKind::kControllerAway:
      return controller.Kill(fault.length);
    case FaultKind::kCrashControllerAtCommit:
      store.ill = fault.detail % 2 == 0 ? StoreDisk::Ill::kCrashBefore : StoreDisk::Ill::kCrashAfter;
      return;
    case FaultKind::kPauseController:
      return controller.Pause(fault.length);
    case FaultKind::kStoreSlow:
      store.slow = true;
      return engine.After(fault.length, nullptr, [&store] { store.slow = false; });
    case FaultKind::kStoreFails:
      store.ill = StoreDisk::Ill::kFails;
      return;
    case FaultKind::kStoreAnswerLost:
      store.ill = StoreDisk::Ill::kAnswerLost;
      return;
    case FaultKind::kLoseMachine:
      if (fault.detail % 2 == 0) {
        engine.After(absl::Seconds(25), nullptr,
                     [&, worker = fault.worker] { ConfirmDead(controller, history, worker); });
      }
      return workers[fault.worker % workers.size()]->Suffer(fault);
    default:
      return workers[fault.worker % workers.size()]->Suffer(fault);
  }
}

}  // namespace

Outcome Play(const Scenario& scenario, bool keep_lines) {
  Engine engine;
  History history(engine, keep_lines);
  ControllerHost controller(engine, history, scenario.seed);
  std::map<std::string, JobScript> scripts;
  for (const JobScript& job : scenario.jobs) scripts[absl::StrCat("r", job.number)] = job;
  history.verifies = [&](const v1::CheckpointManifest& manifest) {
    if (manifest.shards_size() != 1 || history.jobs().count(manifest.job_id()) == 0) return false;
    const auto blob = controller.content().find(manifest.shards(0).file().sha256());
    return blob != controller.content().end() &&
           blob->second == WeightsAt(history.jobs().at(manifest.job_id()).job().name(), manifest.step());
  };
  history.result_verifies = [&](const v1::JobRecord& job) {
    if (job.result().files_size() != 1) return false;
    const auto blob = controller.content().find(job.result().files(0).sha256());
    return blob != controller.content().end() &&
           blob->second == WeightsAt(job.job().name(), job.job().training().max_steps());
  };
  history.may_fail = [&](const v1::JobRecord& job) {
    const JobScript& script = scripts.at(job.job().name());
    // Out of memory is retried once, with half the micro batch of 4.
    return script.max_crashes < kManyCrashes || script.oom_above_micro == 1;
  };
  std::vector<std::unique_ptr<WorkerHost>> workers;
  for (int i = 0; i < scenario.workers; ++i) {
    workers.push_back(
        std::make_unique<WorkerHost>(engine, history, controller, scenario.seed, i, scenario.devices[i], scripts));
  }
  std::vector<std::unique_ptr<Client>> clients;
  for (const JobScript& job : scenario.jobs) {
    clients.push_back(std::make_unique<Client>(engine, history, controller, scenario.seed, job));
    clients.back()->Start();
  }
  controller.Start();
  for (const auto& worker : workers) worker->Boot();
  for (const Fault& fault : scenario.faults) {
    engine.At(kStart + fault.at, nullptr, [&, fault] {
      history.Note(Describe(fault));
      Happen(fault, workers, controller, engine, history);
    });
  }
  const auto violated = [&] { return !history.violations().empty(); };
  engine.RunUntil(kStart + scenario.faults_end, violated);
  int longest_fence = 0;
  for (const JobScript& job : scenario.jobs) longest_fence = std::max(longest_fence, job.fence_seconds);
  if (!violated()) {
    history.Note("the faults are over");
    controller.disk().slow = false;
    controller.disk().ill = StoreDisk::Ill::kNot;
    for (const auto& worker : workers) worker->Heal();
    engine.RunUntil(kStart + scenario.faults_end + absl::Seconds(longest_fence + 60), violated);
  }
  if (!violated()) history.CheckSettled();
  for (const auto& worker : workers) {
    if (worker->journal_bytes() > kMaxJournalBytes) history.Violation("Bounded", "a journal grows without end");
  }
  Outcome outcome;
  for (const auto& [id, job] : history.jobs()) outcome.attempts += job.attempts_size();
  outcome.violations = history.violations();
  outcome.hash = history.hash();
  outcome.events = engine.events();
  outcome.jobs = static_cast<int64_t>(history.jobs().size());
  outcome.lines = history.lines();
  for (const auto& worker : workers) worker->TurnOff();
  engine.Clear();
  return outcome;
}

namespace {

bool StillFails(const Scenario& scenario, const std::string& invariant) {
  const Outcome outcome = Play(scenario, /*keep_lines=*/false);
  return !outcome.violations.empty() && outcome.violations.front().first == invariant;
}

template <typename T>
void Thin(Scenario& scenario, std::vector<T> Scenario::*list, size_t least, const std::string& invariant) {
  for (size_t chunk = std::max<size_t>(1, (scenario.*list).size() / 2);; chunk /= 2) {
    for (size_t begin = 0; begin < (scenario.*list).size();) {
      Scenario fewer = scenario;
      std::vector<T>& thinned = fewer.*list;
      thinned.erase(thinned.begin() + begin, thinned.begin() + std::min(thinned.size(), begin + chunk));
      if (thinned.size() >= least && StillFails(fewer, invariant)) {
        scenario = std::move(fewer);
      } else {
        begin += chunk;
      }
    }
    if (chunk == 1) return;
  }
}

}  // namespace

Scenario Shrink(const Scenario& scenario, const std::string& invariant) {
  Scenario smallest = scenario;
  for (int round = 0; round < 2; ++round) {
    Thin(smallest, &Scenario::faults, 0, invariant);
    Thin(smallest, &Scenario::jobs, 1, invariant);
  }
  return smallest;
}

}  // namespace studio::sim
