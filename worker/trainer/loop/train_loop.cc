#include "worker/trainer/loop/train_loop.h"

#include <ATen/ops/stack.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/trainer/checkpoint/checkpoint_folder.h"
#include "worker/trainer/data_feed/batch_builder.h"
#include "worker/trainer/data_feed/permutation.h"
#include "worker/trainer/device/runtime.h"
#include "worker/trainer/eval/evaluate.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/optim/clip.h"
#include "worker/trainer/parallel/sync.h"
#include "worker/trainer/status/failure.h"

namespace studio {
namespace {

// For durations alone; nothing that is trained depends on it.
double NowSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string CheckpointsFolder(const v1::TrainerTask& task) { return absl::StrCat(task.out_dir(), "/checkpoints"); }

}  // namespace

TrainLoop::TrainLoop(Parts parts, RunSummary& summary)
    : parts_(std::move(parts)),
      summary_(summary),
      state_(parts_.identity),
      meter_(parts_.setup.feed.total_steps, 0),
      cadence_(parts_.task.job().training(), NowSeconds()),
      writer_(parts_.env, CheckpointsFolder(parts_.task), /*rank=*/0, [this](const CheckpointWriter::Written& written) {
        write_seconds_ = written.seconds;
        v1::TrainerUp event;
        *event.mutable_checkpoint() = written.manifest;
        event.mutable_checkpoint()->set_job_id(parts_.task.job_id());
        event.mutable_checkpoint()->set_epoch(parts_.task.epoch());
        parts_.link.Send(std::move(event));
      }) {}

absl::Status TrainLoop::Resume(const std::string& folder) {
  Optimizer& optimizer = *parts_.setup.optimizer;
  ASSIGN_OR_RETURN(const v1::TrainingState read,
                   ReadCheckpoint(parts_.env, folder, /*rank=*/0, parts_.identity, optimizer.State()));
  state_.set_step(read.step());
  state_.set_tokens_seen(read.tokens_seen());
  if (read.has_before()) *state_.mutable_before() = read.before();
  *state_.mutable_samples_before() = read.samples_before();
  optimizer.set_steps(read.step());
  meter_ = ProgressMeter(parts_.setup.feed.total_steps, read.tokens_seen());
  return absl::OkStatus();
}

// One optimizer step, top to bottom. Throws what LibTorch throws.
absl::StatusOr<TrainLoop::StepResult> TrainLoop::ComputeStep(int64_t step) {
  RunSetup& setup = parts_.setup;
  const RowStore& rows = parts_.train_rows;
  const std::span<const uint32_t> order = OrderOf(step);
  const std::span<const uint32_t> global = GlobalRowsOfStep(setup.feed, order, step);
  // Counted before the first backward pass, so that each gradient is scaled once and batches need not divide evenly.
  const double valid_tokens = rows.ValidTokens(global);

  std::vector<Batch> dumped;
  std::vector<at::Tensor> numbers;  // the micro batches' losses, then the gradient's norm: fp64, on the device
  setup.optimizer->ZeroGrads();
  for (const MicroBatchRows& micro : RowsOfStep(setup.feed, order, step)) {
    // Of several ranks none leaves a step alone: the others would wait for it.
    if (ranks().size() == 1 && StopAskedHere() && discard_here_) {
      return absl::CancelledError("stopped inside a step");
    }
    Batch batch = BuildBatch(rows, micro, step, setup.model->options().device);
    numbers.push_back(setup.gradients->Accumulate(batch, valid_tokens > 0 ? 1.0 / valid_tokens : 0.0));
    if (parts_.dump != nullptr) dumped.push_back(std::move(batch));
  }
  // Every rank scaled by the tokens of all, so the sums are those of the global batch.
  RETURN_IF_ERROR(ranks().Sum(setup.optimizer->flat_grads(), "the gradients"));

  StepResult result;
  result.learning_rate = LearningRate(setup.schedule, step);
  result.tokens = rows.Tokens(global);
  numbers.push_back(
      ClipGradNorm(setup.optimizer->grads(), parts_.task.job().training().gradient_clip()).to(at::kDouble));
  setup.optimizer->Step(result.learning_rate);
  setup.gradients->Refresh();
  // The one place where the step waits for the device.
  const at::Tensor read = at::stack(numbers).cpu();
  double loss_sum = 0;
  for (size_t i = 0; i + 1 < numbers.size(); ++i) loss_sum += read.const_data_ptr<double>()[i];
  ASSIGN_OR_RETURN(loss_sum, ranks().Sum(loss_sum, "the loss"));
  result.loss = valid_tokens > 0 ? loss_sum / valid_tokens : 0;
  result.grad_norm = read.const_data_ptr<double>()[numbers.size() - 1];
  // Weights are spoilt then, but no checkpoint of them is written.
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    return FailureError(v1::DIVERGED,
                        absl::StrCat("step ", step + 1, ": the loss is ", result.loss, " and the gradient's norm ",
                                     result.grad_norm, "; lower training.learning_rate (", result.learning_rate,
                                     " here) or clip harder (training.gradient_clip)"));
  }
  if (parts_.dump != nullptr) parts_.dump->Add(step, result.learning_rate, dumped);
  return result;
}

absl::StatusOr<TrainLoop::StepResult> TrainLoop::Step(int64_t step) {
  const double start = NowSeconds();
  absl::StatusOr<absl::StatusOr<StepResult>> caught = CatchTorch([&] {
    if (parts_.profile != nullptr) parts_.profile->Before(step);
    auto result = ComputeStep(step);
    if (parts_.profile != nullptr) parts_.profile->After(step);
    return result;
  });
  if (!caught.ok()) return WithContext(caught.status(), absl::StrCat("step ", step + 1, ": "));
  if (caught->ok()) {
    meter_.Step((*caught)->tokens, NowSeconds() - start);
    summary_.step_seconds.push_back(NowSeconds() - start);
    summary_.step_tokens.push_back((*caught)->tokens);
  }
  return *std::move(caught);
}

absl::StatusOr<bool> TrainLoop::Run() {
  const int64_t first = state_.step();
  summary_.first_step = first;
  for (int64_t step = first; step < parts_.setup.feed.total_steps; ++step) {
    ASSIGN_OR_RETURN(const bool stop, StopAsked());
    if (stop) break;
    absl::StatusOr<StepResult> result = Step(step);
    if (absl::IsCancelled(result.status())) break;
    RETURN_IF_ERROR(result.status());
    state_.set_step(step + 1);
    state_.set_tokens_seen(meter_.tokens_seen());
    RETURN_IF_ERROR(Report(*result));
    if (EvaluationDue()) {
      const absl::Status status = Evaluate();
      if (!status.ok() && !absl::IsCancelled(status)) return status;
    }
    // A checkpoint that is asked for by a stop is written below.
    if (!StopAskedHere() && !stop_ && (checkpoint_asked_ || cadence_.Due(state_.step(), NowSeconds()))) {
      RETURN_IF_ERROR(SaveCheckpoint());
    }
  }
  ASSIGN_OR_RETURN(const bool stop, StopAsked());
  if (!stop) return true;
  if (!discard_ && state_.step() > first) RETURN_IF_ERROR(SaveCheckpoint());
  RETURN_IF_ERROR(FinishCheckpoints());
  return false;
}

absl::Status TrainLoop::Report(const StepResult& result) {
  summary_.losses.push_back(result.loss);
  summary_.tokens_per_second = meter_.MeanTokensPerSecond();
  const int64_t every = std::max<int64_t>(1, parts_.task.job().training().logging_steps());
  if (state_.step() % every != 0 && state_.step() != parts_.setup.feed.total_steps) return absl::OkStatus();
  v1::TrainerUp event;
  v1::Progress& point = *event.mutable_progress();
  point = meter_.Point(state_.step());
  point.set_loss(result.loss);
  point.set_learning_rate(result.learning_rate);
  point.set_grad_norm(result.grad_norm);
  const int64_t peak[] = {PeakMemoryBytes(parts_.setup.model->options().device)};
  ASSIGN_OR_RETURN(const std::vector<int64_t> peaks, SyncAcrossProcesses(std::span<const int64_t>(peak), ranks()));
  point.set_peak_memory_bytes(*std::max_element(peaks.begin(), peaks.end()));
  *point.mutable_time() = google::protobuf::util::TimeUtil::GetCurrentTime();
  parts_.link.Send(std::move(event));
  return absl::OkStatus();
}

bool TrainLoop::EvaluationDue() const {
  const int64_t every = parts_.task.job().training().eval_steps();
  // The one after the last step belongs to the end of the run, which a resumed run may have to do alone.
  if (state_.step() == parts_.setup.feed.total_steps) return false;
  return every > 0 ? state_.step() % every == 0 : parts_.setup.feed.EndsEpoch(state_.step() - 1);
}

absl::Status TrainLoop::Evaluate() {
  if (parts_.validation_rows.size() == 0) return absl::OkStatus();
  const v1::Job& job = parts_.task.job();
  const int64_t batch_rows =
      job.prediction().batch_size_inference() > 0 ? job.prediction().batch_size_inference() : parts_.setup.plan.micro();
  ASSIGN_OR_RETURN(v1::Evaluation evaluation, studio::Evaluate(*parts_.setup.model, parts_.validation_rows, batch_rows,
                                                               ranks(), [this] { return StopAsked(); }));
  evaluation.set_step(state_.step());
  *evaluation.mutable_time() = google::protobuf::util::TimeUtil::GetCurrentTime();
  summary_.evaluations.push_back(evaluation);
  v1::TrainerUp event;
  *event.mutable_evaluation() = std::move(evaluation);
  parts_.link.Send(std::move(event));
  return absl::OkStatus();
}

absl::Status TrainLoop::SaveCheckpoint() {
  if (ranks().rank() != 0) return absl::OkStatus();
  const double start = NowSeconds();
  checkpoint_asked_ = false;
  cadence_.Started(start);
  state_.set_data_epoch(parts_.setup.feed.EpochOf(state_.step()));
  state_.set_data_row(state_.step() % parts_.setup.feed.steps_per_epoch * parts_.setup.feed.global());
  Checkpoint checkpoint;
  checkpoint.state = state_;
  ASSIGN_OR_RETURN(checkpoint.tensors, CopyToHost(parts_.setup.optimizer->State()));
  // Where the one before is still being written, this waits: part of what a checkpoint costs.
  RETURN_IF_ERROR(writer_.Start(std::move(checkpoint)));
  cadence_.Cost(NowSeconds() - start + write_seconds_);
  return absl::OkStatus();
}

absl::Status TrainLoop::FinishCheckpoints() {
  RETURN_IF_ERROR(writer_.Wait());
  StopAskedHere();  // takes the word that it is recorded, where that is here already
  return absl::OkStatus();
}

bool TrainLoop::StopAskedHere() {
  const Orders orders = parts_.link.TakeOrders();
  stop_here_ |= orders.stop;
  discard_here_ |= orders.discard;
  checkpoint_asked_ |= orders.checkpoint;
  if (orders.recorded_step && ranks().rank() == 0) {
    // A folder that cannot be deleted costs disk space and nothing else.
    const absl::Status status = KeepNewest(parts_.env, CheckpointsFolder(parts_.task), *orders.recorded_step,
                                           parts_.task.job().training().save_total_limit());
    if (!status.ok()) parts_.link.Send(NoteEvent(absl::StrCat("old checkpoints stay: ", status.message())));
  }
  return stop_here_;
}

// An order reaches each rank in a moment of its own; acting on it alone, a rank would leave the others in a collective.
absl::StatusOr<bool> TrainLoop::StopAsked() {
  StopAskedHere();
  ASSIGN_OR_RETURN(stop_, ranks().Any(stop_here_, "whether to stop"));
  if (stop_) {
    ASSIGN_OR_RETURN(discard_, ranks().Any(discard_here_, "whether to checkpoint"));
  }
  return stop_;
}

std::span<const uint32_t> TrainLoop::OrderOf(int64_t step) {
  const FeedPlan& feed = parts_.setup.feed;
  if (const int64_t epoch = feed.EpochOf(step); epoch != ordered_epoch_) {
    order_ = EpochOrder(feed.seed, epoch, feed.rows);
    ordered_epoch_ = epoch;
  }
  return order_;
}

}  // namespace studio
