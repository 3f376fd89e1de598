// Real faults on real processes, drawn by a seed: SIGKILL and SIGSTOP of controller, workers, trainers and clients,
// connections cut, and bytes held in one direction or both; then everything heals, and every job must end well. Where
// this user may make network namespaces, the last worker is in one of its own, and it is packets that are lost there.
//
//   bazel run //tests/faults:soak -- [FAULTS] [SEED]
//
// Prints what was done and found; exit code 1 where anything was lost, ran twice or was counted twice. Timers are
// short (lost after 1.5 s, fenced 3 s later), so that some faults outlast the fence: then a second attempt is right,
// and only one of the two may count.
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/env/posix_launcher.h"
#include "common/status/macros.h"
#include "tests/faults/far_side.h"
#include "tests/faults/fault_proxy.h"
#include "tests/faults/judge.h"
#include "tests/integration/cluster.h"
#include "tests/integration/started_trainers.h"

namespace studio {
namespace {

constexpr int kWorkers = 3, kJobsAtOnce = 6, kSteps = 60;
constexpr double kFenceSeconds = 3;
constexpr auto kSettle = std::chrono::seconds(63);  // the fence, and a minute

// What the faults last: time is what they are made of.
void Last(int milliseconds) { poll(nullptr, 0, milliseconds); }

class Soak {
 public:
  // `far`: null where there are no namespaces. Outlives the soak.
  Soak(std::string folder, uint64_t seed, FarSide* far)
      : folder_(std::move(folder)),
        random_(seed),
        far_(far),
        host_(far != nullptr ? far->near_address() : "127.0.0.1"),
        cluster_(folder_, {}, host_) {}

  absl::Status Run(int faults) {
    RETURN_IF_ERROR(SetUp());
    for (int i = 0; i < faults; ++i) {
      RETURN_IF_ERROR(KeepJobs());
      RETURN_IF_ERROR(OneFault());
      Last(Draw(400));
    }
    RETURN_IF_ERROR(Settle());
    RETURN_IF_ERROR(JudgeAll());
    Report(faults);
    return absl::OkStatus();
  }

 private:
  struct Worker {
    std::unique_ptr<FaultProxy> way;  // null: on the far side
    std::unique_ptr<Process> process;
  };

  int Draw(int below) { return static_cast<int>(random_() % below); }
  // Mostly short; one in eight outlasts the fence.
  int FaultMs() { return Draw(8) == 0 ? 5000 + Draw(2000) : Draw(900); }

  absl::Status StartController() {
    return cluster_.StartController({}, {"--lost-after", "1.5", "--keep-superseded-minutes", "0.03", "--insecure"});
  }
  absl::Status StartWorker(int i) {
    LaunchSpec spec;
    const FaultProxy* way = workers_[i].way.get();
    if (way == nullptr) spec.argv = far_->prefix();
    for (const std::string& word :
         {std::filesystem::absolute("worker/agent/studio-worker").string(), std::string("--controller"),
          way != nullptr ? way->address() : cluster_.address(), std::string("--state-dir"),
          absl::StrCat(folder_, "/worker-", i), std::string("--trainer"), trainers_->program()}) {
      spec.argv.push_back(word);
    }
    spec.environment = EnvironmentWith({});
    ASSIGN_OR_RETURN(workers_[i].process, launcher_.Launch(spec));
    return absl::OkStatus();
  }

  absl::Status SetUp() {
    ASSIGN_OR_RETURN(trainers_, StartedTrainers::Create(folder_, "tests/noop/noop_trainer"));
    RETURN_IF_ERROR(StartController());
    for (int i = 0; i < kWorkers; ++i) {
      Worker& worker = workers_.emplace_back();
      if (far_ == nullptr || i + 1 < kWorkers) {
        ASSIGN_OR_RETURN(worker.way, FaultProxy::Start(cluster_.address(), host_ + ":0"));
      }
      RETURN_IF_ERROR(StartWorker(i));
    }
    ASSIGN_OR_RETURN(job_,
                     cluster_.WriteJob(
                         {{"noop.steps", absl::StrCat(kSteps)}, {"noop.step_ms", "20"}, {"noop.checkpoint_every", "5"}},
                         absl::StrCat("retry { max_crashes: 1000 fence_seconds: ", kFenceSeconds, " }\n")));
    return absl::OkStatus();
  }

  // A client's submit. What it was told once must stay true.
  absl::Status Submit(const std::string& request) {
    ASSIGN_OR_RETURN(const Cluster::Ctl ctl, cluster_.RunCtl({"submit", job_, "-o", "name", "--request-id", request}));
    if (ctl.exit_code != 0) return absl::OkStatus();  // again later
    const std::string id = Cluster::IdIn(ctl);
    const auto [told, is_new] = acknowledged_.emplace(request, id);
    wanted_.erase(request);
    if (!is_new && told->second != id) {
      return absl::DataLossError(absl::StrCat(request, " was ", told->second, " and is now ", id));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<v1::JobRecord>> Jobs() { return ListAllJobs(cluster_.api()); }

  absl::Status KeepJobs() {
    for (const std::string& request : std::set<std::string>(wanted_)) RETURN_IF_ERROR(Submit(request));
    const absl::StatusOr<std::vector<v1::JobRecord>> jobs = Jobs();
    if (!jobs.ok()) return absl::OkStatus();  // away just now
    int live = 0;
    for (const v1::JobRecord& job : *jobs) {
      if (job.state() == v1::FAILED) return absl::InternalError("a job FAILED: " + job.ShortDebugString());
      live += job.state() != v1::SUCCEEDED ? 1 : 0;
    }
    while (live++ < kJobsAtOnce) {
      const std::string request = absl::StrCat("soak-", next_request_++);
      wanted_.insert(request);
      RETURN_IF_ERROR(Submit(request));
    }
    return absl::OkStatus();
  }

  void LookForTrainers() {
    while (trainers_->More()) {
      absl::StatusOr<StartedTrainer> trainer = trainers_->Next();
      if (trainer.ok()) running_.push_back(*std::move(trainer));  // else it is gone already
    }
    std::erase_if(running_, [](const StartedTrainer& trainer) { return trainer.Ended(); });
  }

  absl::Status OneFault() {
    Worker& worker = workers_[Draw(kWorkers)];
    const int which = static_cast<int>(&worker - workers_.data());
    LookForTrainers();
    switch (Draw(9)) {
      case 0:
        ++done_["controller killed"];
        cluster_.KillController();
        Last(FaultMs());
        return StartController();
      case 1:
        ++done_["controller stopped and continued"];
        return StopAndContinue(cluster_.controller_pid());
      case 2:
        ++done_["worker killed"];
        worker.process->Kill(SIGKILL);
        worker.process.reset();
        Last(FaultMs());
        return StartWorker(which);
      case 3:
        ++done_["worker stopped and continued"];
        return StopAndContinue(worker.process->pid());
      case 4:
        if (running_.empty()) return OneFault();
        ++done_["trainer killed"];
        (void)running_[Draw(static_cast<int>(running_.size()))].Kill();
        return absl::OkStatus();
      case 5:
        if (running_.empty()) return OneFault();
        ++done_["trainer stopped and continued"];
        return StopAndContinue(running_[Draw(static_cast<int>(running_.size()))].pid());
      case 6: {
        ++done_["client killed"];
        const std::string request = absl::StrCat("soak-", next_request_++);
        wanted_.insert(request);
        return SubmitAndDie(request);
      }
      case 7:
        if (worker.way == nullptr) return OneFault();
        ++done_["connections cut"];
        worker.way->Cut();
        return absl::OkStatus();
      default: {
        const int direction = Draw(3);
        const bool up = direction != 2, down = direction != 1;
        const std::string what = direction == 0   ? "partition"
                                 : direction == 1 ? "partition, unheard"
                                                  : "partition, deaf";
        ++done_[what + (worker.way == nullptr ? ", packets lost" : "")];
        if (worker.way == nullptr) {
          RETURN_IF_ERROR(far_->Cut(up, down));
          Last(FaultMs());
          return far_->Cut(false, false);
        }
        worker.way->Hold(up, down);
        Last(FaultMs());
        if (Draw(2) == 0) worker.way->Cut();
        worker.way->Hold(false, false);
        return absl::OkStatus();
      }
    }
  }

  absl::Status StopAndContinue(int pid) {
    kill(pid, SIGSTOP);
    Last(FaultMs());
    kill(pid, SIGCONT);
    return absl::OkStatus();
  }

  absl::Status SubmitAndDie(const std::string& request) {
    LaunchSpec spec;
    spec.argv = {std::filesystem::absolute("studioctl/studioctl").string(), "submit", job_, "--request-id", request};
    spec.environment = EnvironmentWith({"STUDIO_CONTROLLER=" + cluster_.address(), "HOME=" + folder_});
    spec.output = LaunchSpec::Output::kPipeBoth;
    ASSIGN_OR_RETURN(const std::unique_ptr<Process> client, launcher_.Launch(spec));
    Last(Draw(60));
    client->Kill(SIGKILL);
    return absl::OkStatus();
  }

  absl::Status Settle() {
    const auto deadline = std::chrono::steady_clock::now() + kSettle;
    std::string unsettled = "the controller does not answer";
    while (std::chrono::steady_clock::now() < deadline) {
      for (const std::string& request : std::set<std::string>(wanted_)) RETURN_IF_ERROR(Submit(request));
      const absl::StatusOr<std::vector<v1::JobRecord>> jobs = Jobs();
      if (jobs.ok()) {
        unsettled.clear();
        for (const v1::JobRecord& job : *jobs) {
          if (job.state() != v1::SUCCEEDED) unsettled = job.ShortDebugString();
        }
        if (unsettled.empty() && wanted_.empty()) return absl::OkStatus();
      }
      Last(200);
    }
    return absl::DeadlineExceededError("not settled: " + unsettled);
  }

  absl::Status JudgeAll() {
    ASSIGN_OR_RETURN(const std::vector<v1::JobRecord> jobs, Jobs());
    ASSIGN_OR_RETURN(judgement_, Judge(jobs, acknowledged_, kSteps, trainers_->overlaps()));
    for (Worker& worker : workers_) worker.process->Kill(SIGKILL);
    for (Worker& worker : workers_) worker.process.reset();
    cluster_.KillController();
    ASSIGN_OR_RETURN(const std::string verified, cluster_.VerifyController());
    std::printf("%s", verified.c_str());
    return absl::OkStatus();
  }

  void Report(int faults) {
    std::printf("%d faults:", faults);
    for (const auto& [what, times] : done_) std::printf(" %d %s;", times, what.c_str());
    std::printf(
        "\n%zu jobs, all SUCCEEDED, in %d attempts, %d of them fenced; 0 lost, 0 duplicated, 0 counted twice "
        "(%d times two trainers of one job, each after its fence)\n",
        acknowledged_.size(), judgement_.attempts, judgement_.fenced, judgement_.overlaps);
  }

  const std::string folder_;
  std::mt19937_64 random_;
  FarSide* const far_;
  const std::string host_;
  PosixLauncher launcher_;
  std::optional<StartedTrainers> trainers_;
  Cluster cluster_;
  std::vector<Worker> workers_;
  std::string job_;
  std::vector<StartedTrainer> running_;
  std::set<std::string> wanted_;                     // requests without an answer
  std::map<std::string, std::string> acknowledged_;  // request → job
  int next_request_ = 1;
  std::map<std::string, int> done_;
  Judgement judgement_;
};

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  const int faults = argc > 1 ? std::max(1, std::atoi(argv[1])) : 100;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device()();
  std::string folder = "/tmp/studio-soak-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  // Before anything has threads.
  const absl::StatusOr<std::unique_ptr<studio::FarSide>> far = studio::FarSide::Create();
  if (!far.ok()) std::printf("no packets will be lost: %s\n", far.status().ToString().c_str());
  const absl::Status status = studio::Soak(folder, seed, far.ok() ? far->get() : nullptr).Run(faults);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\nthe state is left in %s\n", status.ToString().c_str(), folder.c_str());
    return 1;
  }
  std::filesystem::remove_all(folder);
  return 0;
}
