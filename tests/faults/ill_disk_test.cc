// One call on a program's files fails, the Nth, for every N that a job's life reaches: a write with EIO, a full disk, a
// sync. The program starts again with a disk that is well, and all that it had told is true. After a sync that failed
// it must have ended with an error, and never have asked that disk again.
#include <grpcpp/client_context.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status/testing.h"
#include "common/time/patience.h"
#include "tests/faults/ill_program.h"
#include "tests/faults/judge.h"
#include "tests/integration/cluster.h"
#include "tests/integration/started_trainers.h"

namespace studio {
namespace {

struct Sweep {
  const char* name;
  bool controller;
  IllProgram::Call call;
  IllProgram::Error error;
  // At least so many calls are there to fail: a sweep that reaches none tests nothing.
  int least;
  // Of the program's folder. Empty: all of it.
  const char* file = "";
  int steps = 6, checkpoint_every = 2, step_ms = 0;
  int first = 1, last = 1 << 30;
  // Labels of 256 bytes, beside the others: they go into the log with each change of the job.
  int ballast = 0;
};

class IllDiskTest : public testing::TestWithParam<Sweep> {
 protected:
  void SetUp() override {
    std::string name = "/tmp/studio-ill-disk-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    ASSERT_OK_AND_ASSIGN(trainers_, StartedTrainers::Create(folder_, "tests/noop/noop_trainer"));
    Cluster::Binaries binaries;
    binaries.trainer = trainers_->program();
    std::string& ill = GetParam().controller ? binaries.controller : binaries.worker;
    ill_folder_ = folder_ + (GetParam().controller ? "/controller" : "/worker");
    real_ = std::exchange(ill, folder_ + "/ill-" + std::filesystem::path(ill).filename().string());
    cluster_.emplace(folder_, binaries);
    // Its ports, which a second life must find again.
    ASSERT_OK(IllProgram::Create(folder_, real_, {.under = ill_folder_, .nth = 1 << 30}));
    ASSERT_OK(cluster_->StartController());
    cluster_->KillController();
    Clean();
  }
  void TearDown() override {
    cluster_.reset();
    if (!HasFailure()) std::filesystem::remove_all(folder_);
  }

  void Clean() {
    for (const char* left : {"/controller", "/worker"}) std::filesystem::remove_all(folder_ + left);
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      if (absl::StartsWith(entry.path().filename().string(), "ill-")) std::filesystem::remove_all(entry.path());
    }
  }

  // Whether a promise rests on this file. What an attempt has in its own folder is none: at worst it fails, and another
  // one begins. That SQLite could not sync its folder it keeps to itself; who opened it asks again, before any promise.
  // Where it could not sync its new file, it writes that anew before it gives up.
  bool Counts(const std::string& path) const {
    const bool new_file = path == folder_ + "/controller/controller.db" && GetParam().first == 1;
    return !absl::StrContains(path, "/attempts/") && path != folder_ + "/controller" && !new_file;
  }

  // A client's submit, again until it is told.
  absl::StatusOr<std::string> SubmitUntilTold(const IllProgram& ill) {
    Cluster::Labels labels = {{"noop.steps", absl::StrCat(GetParam().steps)},
                              {"noop.step_ms", absl::StrCat(GetParam().step_ms)},
                              {"noop.checkpoint_every", absl::StrCat(GetParam().checkpoint_every)}};
    for (int i = 0; i < GetParam().ballast; ++i)
      labels.emplace_back(absl::StrCat("ballast.", i), std::string(256, 'x'));
    const absl::StatusOr<std::string> job = cluster_->WriteJob(labels);
    if (!job.ok()) return job;
    std::string output;
    const absl::Time give_up = absl::Now() + Patience(absl::Minutes(1));
    while (absl::Now() < give_up) {
      const absl::StatusOr<Cluster::Ctl> ctl =
          cluster_->RunCtl({"submit", *job, "-o", "name", "--request-id", "the one"});
      if (!ctl.ok()) return ctl.status();
      if (ctl->exit_code == 0) return Cluster::IdIn(*ctl);
      output = ctl->output;
      ill.Free();  // a person sees the error and makes room
      grpc::ClientContext context;
      context.set_wait_for_ready(true);
      context.set_deadline(absl::ToChronoTime(give_up));
      v1::GetVersionResponse version;
      (void)cluster_->api().GetVersion(&context, {}, &version);
    }
    return absl::DeadlineExceededError("refused again and again: " + output);
  }

  // False where the job's life has no Nth call.
  bool Plays(int nth) {
    SCOPED_TRACE(absl::StrCat("call ", nth, ", in ", folder_));
    const absl::StatusOr<IllProgram> ill = IllProgram::Create(
        folder_, real_,
        {.under = ill_folder_ + GetParam().file, .call = GetParam().call, .error = GetParam().error, .nth = nth});
    EXPECT_OK(ill);
    EXPECT_OK(cluster_->StartController({}, {"--lost-after", "1.5"}));
    EXPECT_OK(cluster_->StartWorker());
    if (HasFailure()) return false;
    const absl::StatusOr<std::string> id = SubmitUntilTold(*ill);
    EXPECT_OK(id);
    if (!id.ok()) return false;
    EXPECT_OK(cluster_->AwaitState(*id, v1::SUCCEEDED));
    const std::string failed = ill->failed();
    const bool must_end = GetParam().call == IllProgram::Call::kSync && !failed.empty() && Counts(failed);
    // A controller that stops says so to those who watch before it is gone.
    const bool ended = must_end || ill->first_life_ended();
    if (ended) {
      const absl::StatusOr<int> end = ill->AwaitFirstEnd();
      EXPECT_OK(end) << failed << " could not be synced";
      EXPECT_EQ(end.value_or(1), 1) << "it should end by itself, with an error, after " << failed;
    }
    // Again where it ends just now.
    absl::StatusOr<std::vector<v1::JobRecord>> jobs = absl::UnavailableError("not asked yet");
    for (int tries = 0; tries < 3 && !jobs.ok(); ++tries) {
      EXPECT_OK(cluster_->AwaitState(*id, v1::SUCCEEDED));
      jobs = ListAllJobs(cluster_->api());
    }
    EXPECT_OK(jobs);
    EXPECT_OK(Judge(jobs.value_or(std::vector<v1::JobRecord>()), {{"the one", *id}}, GetParam().steps,
                    trainers_->overlaps()));
    cluster_->KillWorker();
    cluster_->KillController();
    EXPECT_OK(cluster_->VerifyController());
    std::vector<std::string> again = ill->synced_again();
    std::erase_if(again, [&](const std::string& path) { return !Counts(path); });
    EXPECT_THAT(again, testing::IsEmpty());
    std::printf("%4d: %s%s\n", nth, failed.empty() ? "not reached" : failed.c_str(),
                ended ? ", ended and started again" : "");
    return !failed.empty();
  }

  std::string folder_, ill_folder_, real_;
  std::optional<StartedTrainers> trainers_;
  std::optional<Cluster> cluster_;
};

TEST_P(IllDiskTest, WhatWasToldStaysTrueWhicheverCallFails) {
  int nth = GetParam().first;
  // Each up to the 24th, then one in eight: by then it is the same change of state again.
  for (; nth <= GetParam().last && Plays(nth) && !HasFailure(); nth += nth < 24 ? 1 : 8) Clean();
  EXPECT_GT(nth, GetParam().least);
}

using Call = IllProgram::Call;
using Error = IllProgram::Error;
INSTANTIATE_TEST_SUITE_P(All, IllDiskTest,
                         testing::Values(Sweep{"ControllerSync", true, Call::kSync, Error::kOnce, 20},
                                         Sweep{"ControllerWrite", true, Call::kWrite, Error::kOnce, 20},
                                         Sweep{"ControllerFull", true, Call::kWrite, Error::kFull, 20},
                                         // Where the log is moved into it: some hundred commits after its creation.
                                         Sweep{"ControllerFile", true, Call::kSync, Error::kOnce, 2, "/controller.db$",
                                               900, 1, 4, 2, 2, 60},
                                         Sweep{"WorkerSync", false, Call::kSync, Error::kOnce, 12},
                                         Sweep{"WorkerWrite", false, Call::kWrite, Error::kOnce, 12},
                                         Sweep{"WorkerFull", false, Call::kWrite, Error::kFull, 12}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace studio
