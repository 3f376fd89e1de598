#include "worker/trainer/loop/run_task.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/data/prepare.h"
#include "worker/trainer/checkpoint/checkpoint_folder.h"
#include "worker/trainer/checkpoint/identity.h"
#include "worker/trainer/data_feed/batch_dump.h"
#include "worker/trainer/data_feed/row_store.h"
#include "worker/trainer/device/runtime.h"
#include "worker/trainer/eval/samples.h"
#include "worker/trainer/loop/result.h"
#include "worker/trainer/loop/setup.h"
#include "worker/trainer/loop/train_loop.h"
#include "worker/trainer/parallel/sync.h"

namespace studio {
namespace {

absl::StatusOr<PreparedData> PrepareData(const v1::TrainerTask& task, RankLink& link) {
  link.Send(StateEvent(v1::ATTEMPT_PREPARING));
  ASSIGN_OR_RETURN(PreparedData data, Prepare(task.job(), task.data_dir(), [&](const PrepareProgress& progress) {
                     v1::TrainerUp event;
                     event.mutable_progress()->set_prepared_rows(progress.prepared_rows);
                     event.mutable_progress()->set_total_rows(progress.total_rows);
                     link.Send(std::move(event));
                   }));
  v1::TrainerUp event;
  *event.mutable_data() = data.report;
  link.Send(std::move(event));
  return data;
}

absl::StatusOr<v1::TrainingState> IdentityOf(const v1::TrainerTask& task, const RunSetup& setup,
                                             const PreparedData& data, Env& env) {
  v1::TrainingState identity;
  identity.set_total_steps(setup.feed.total_steps);
  *identity.mutable_job() = SettingsThatDecide(task.job());
  identity.mutable_job()->mutable_training()->set_optimizer(setup.optimizer_kind);
  identity.set_data_key(data.key);
  ASSIGN_OR_RETURN(*identity.mutable_model_key(), ModelKey(env, task.job().architecture().llm_backbone()));
  *identity.mutable_plan() = setup.plan;
  identity.set_libtorch_version(STUDIO_LIBTORCH_VERSION);
  identity.set_device(setup.model->options().device.str());
  identity.set_threads(setup.threads);
  return identity;
}

// Ranks that do not start alike would train apart, or wait for each other for ever.
absl::Status CheckSameOnAllRanks(const v1::TrainingState& identity, int64_t step, Ranks& ranks) {
  const size_t print = std::hash<std::string>()(
      absl::StrCat(identity.job().SerializeAsString(), "|", identity.data_key(), "|", identity.model_key(), "|",
                   identity.plan().SerializeAsString(), "|", identity.total_steps(), "|", step));
  const int64_t mine[] = {static_cast<int64_t>(print), step};
  ASSIGN_OR_RETURN(const std::vector<int64_t> all, SyncAcrossProcesses(std::span<const int64_t>(mine), ranks));
  for (size_t rank = 1; 2 * rank < all.size(); ++rank) {
    if (all[2 * rank] != all[0]) {
      return absl::FailedPreconditionError(absl::StrCat(
          "rank ", rank, " begins at step ", all[2 * rank + 1], " with another job, data, backbone or plan ",
          "than rank 0 at step ", all[1], ": all must see the same files and versions"));
    }
  }
  return absl::OkStatus();
}

// Rank 0 answers; the others wait, so that all learn of a stop at the same place.
absl::StatusOr<std::vector<v1::Sample>> MakeSamples(TrainLoop& loop, SampleMaker& samples, int64_t step, int rank) {
  std::vector<v1::Sample> answers;
  if (rank == 0) {
    absl::StatusOr<std::vector<v1::Sample>> made = samples.Make(step, [&] { return loop.StopAskedHere(); });
    if (!made.ok() && !absl::IsCancelled(made.status())) return made.status();
    if (made.ok()) answers = *std::move(made);
  }
  ASSIGN_OR_RETURN(const bool stop, loop.StopAsked());
  if (stop) return absl::CancelledError("stopped at the samples");
  return answers;
}

// What a run looks like before its first step: the figures to compare with.
absl::Status Begin(const v1::TrainerTask& task, TrainLoop& loop, SampleMaker& samples, RunSummary& summary) {
  if (task.job().training().evaluate_before_training()) {
    RETURN_IF_ERROR(loop.Evaluate());
    if (!summary.evaluations.empty()) *loop.state().mutable_before() = summary.evaluations.back();
  }
  ASSIGN_OR_RETURN(const std::vector<v1::Sample> answers, MakeSamples(loop, samples, 0, task.rank().rank()));
  loop.state().mutable_samples_before()->Add(answers.begin(), answers.end());
  return absl::OkStatus();
}

absl::Status End(const v1::TrainerTask& task, TrainLoop& loop, SampleMaker& samples, RunSummary& summary) {
  RETURN_IF_ERROR(loop.Evaluate());
  if (!summary.evaluations.empty() && summary.evaluations.back().step() == loop.step()) {
    summary.after = summary.evaluations.back();
  }
  ASSIGN_OR_RETURN(const std::vector<v1::Sample> answers, MakeSamples(loop, samples, loop.step(), task.rank().rank()));
  summary.samples.insert(summary.samples.end(), answers.begin(), answers.end());
  return absl::OkStatus();
}

// From the first step to the last. OK and summary.stopped where it was told to stop.
absl::Status TrainToTheEnd(const v1::TrainerTask& task, TrainLoop& loop, SampleMaker& samples, RunSummary& summary) {
  // A stop shows as Cancelled wherever it comes; the loop itself answers it with a checkpoint.
  const auto stopped = [&](const absl::Status& status) { return absl::IsCancelled(status) && loop.stopping(); };
  if (task.resume_dir().empty()) {
    if (absl::Status status = Begin(task, loop, samples, summary); !status.ok() && !stopped(status)) {
      return status;
    }
  }
  if (loop.state().has_before()) summary.before = loop.state().before();
  summary.samples.assign(loop.state().samples_before().begin(), loop.state().samples_before().end());

  ASSIGN_OR_RETURN(const bool finished, loop.Run());
  summary.stopped = !finished;
  if (finished) {
    if (absl::Status status = End(task, loop, samples, summary); !status.ok()) {
      if (!stopped(status)) return status;
      summary.stopped = true;
      if (!loop.discard()) RETURN_IF_ERROR(loop.SaveCheckpoint());
    }
  }
  return loop.FinishCheckpoints();
}

}  // namespace

absl::StatusOr<RunSummary> RunTask(const v1::TrainerTask& task, RankLink& link, Env& env, const RunOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  RunSummary summary;
  RETURN_IF_ERROR(CheckResultForm(task.job()));
  RETURN_IF_ERROR(env.MakeFolders(absl::StrCat(task.out_dir(), "/checkpoints")));
  // A rank that starts late must not take rank 0's first checkpoint for the rest of an earlier run's.
  const bool leads = task.rank().rank() == 0;
  if (leads) RETURN_IF_ERROR(RemoveUnfinished(env, absl::StrCat(task.out_dir(), "/checkpoints")));
  ASSIGN_OR_RETURN(PreparedData data, PrepareData(task, link));

  link.Send(StateEvent(v1::ATTEMPT_STARTING));
  ASSIGN_OR_RETURN(RunSetup setup, SetUp(task, data.report, options.step, options.place, env));
  ASSIGN_OR_RETURN(const v1::TrainingState identity, IdentityOf(task, setup, data, env));
  const RowStore train_rows(std::move(data.train)), validation_rows(std::move(data.validation));
  for (const RowStore* rows : {&train_rows, &validation_rows}) {
    RETURN_IF_ERROR(rows->CheckVocabulary(setup.model->architecture().vocab_size));
  }
  auto attention = MakeMeasuredAttention(setup.step, setup.model->options(), env,
                                         [&link](const std::string& line) { link.Send(NoteEvent(line)); });
  ASSIGN_OR_RETURN(setup.gradients,
                   Gradients::Create(*setup.model, setup.step, train_rows.MostTokens(setup.plan.micro()),
                                     setup.operations, std::move(attention)));
  link.Send(NoteEvent(absl::StrCat("training step: ", setup.gradients->description())));
  ASSIGN_OR_RETURN(SampleMaker samples, SampleMaker::Create(task.job(), data, *setup.model, link));
  std::optional<BatchDump> dump;
  if (!options.dump_batches.empty()) {
    ASSIGN_OR_RETURN(dump, BatchDump::Create(options.dump_batches));
  }
  std::optional<StepProfile> profile;
  if (!options.profile.empty()) {
    profile.emplace(options.profile, std::min<int64_t>(10, setup.feed.total_steps - 1), setup.model->options().device);
  }
  TrainLoop loop({task, setup, train_rows, validation_rows, link, env, identity, dump ? &*dump : nullptr,
                  profile ? &*profile : nullptr},
                 summary);
  if (!task.resume_dir().empty()) RETURN_IF_ERROR(loop.Resume(task.resume_dir()));
  RETURN_IF_ERROR(CheckSameOnAllRanks(identity, loop.step(), *setup.ranks));

  link.Send(StateEvent(v1::ATTEMPT_RUNNING));
  RETURN_IF_ERROR(TrainToTheEnd(task, loop, samples, summary));

  if (!summary.stopped && leads) {
    ASSIGN_OR_RETURN(summary.result, LeaveResult(task, *setup.model, env));
  }
  summary.steps = loop.step();
  summary.total_steps = setup.feed.total_steps;
  summary.tokens_seen = loop.state().tokens_seen();
  summary.step = setup.gradients->description();
  summary.optimizer = v1::Training::Optimizer_Name(setup.optimizer_kind);
  summary.device = setup.model->options().device.str();
  summary.peak_memory_bytes = PeakMemoryBytes(setup.model->options().device);
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (leads) RETURN_IF_ERROR(env.WriteFile(absl::StrCat(task.out_dir(), "/summary.json"), SummaryJson(summary)));

  v1::TrainerUp event;
  event.mutable_finished()->set_stopped(summary.stopped);
  *event.mutable_finished()->mutable_result() = summary.result;
  link.Send(std::move(event));
  return summary;
}

}  // namespace studio
