#include "worker/trainer/loop/train_loop.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
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
      utilization_(parts_.setup.model->options().device),
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
absl::StatusOr<TrainLoop::QueuedStep> TrainLoop::QueueStep(int64_t step) {
  RunSetup& setup = parts_.setup;
  const RowStore& rows = parts_.train_rows;
  const std::span<const uint32_t> order = OrderOf(step);
  const std::span<const uint32_t> global = GlobalRowsOfStep(setup.feed, order, step);
  // Counted before the first backward pass, so that each gradient is scaled once and batches need not divide evenly.
  const double valid_tokens = rows.ValidTokens(global);
  const double start = NowSeconds();

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

  const double learning_rate = LearningRate(setup.schedule, step);
  numbers.push_back(
      setup.optimizer->ClipAndStep(learning_rate, parts_.task.job().training().gradient_clip()).to(at::kDouble));
  setup.gradients->Refresh();
  if (parts_.dump != nullptr) parts_.dump->Add(step, learning_rate, dumped);
  return QueuedStep{step, start, learning_rate, valid_tokens, rows.Tokens(global), Readback(numbers)};
}

absl::StatusOr<TrainLoop::StepResult> TrainLoop::FinishStep(QueuedStep& queued) {
  // The one place where training waits for the device.
  const std::vector<double> read = queued.numbers.Read();
  StepResult result{queued.step, 0, read.back(), queued.learning_rate};
  ASSIGN_OR_RETURN(const double loss_sum, ranks().Sum(std::accumulate(read.begin(), read.end() - 1, 0.0), "the loss"));
  result.loss = queued.valid_tokens > 0 ? loss_sum / queued.valid_tokens : 0;
  // Weights are spoilt then, but no checkpoint of them is written.
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    return FailureError(
        v1::DIVERGED, absl::StrCat("step ", result.step + 1, ": the loss is ", result.loss, " and the gradient's norm ",
                                   result.grad_norm, "; lower training.learning_rate (", result.learning_rate,
                                   " here) or clip harder (training.gradient_clip)"));
  }
  // Of steps that overlap, the time from one's end to the next one's.
  const double now = NowSeconds(), seconds = now - std::max(queued.start, finished_at_);
  finished_at_ = now;
  meter_.Step(queued.tokens, seconds);
  summary_.step_seconds.push_back(seconds);
  summary_.step_tokens.push_back(queued.tokens);
  return result;
}

absl::Status TrainLoop::FinishQueued() {
  if (!queued_) return absl::OkStatus();
  QueuedStep queued = *std::move(queued_);
  queued_.reset();
  absl::StatusOr<absl::StatusOr<StepResult>> caught = CatchTorch([&] { return FinishStep(queued); });
  if (!caught.ok()) return WithContext(caught.status(), absl::StrCat("step ", queued.step + 1, ": "));
  RETURN_IF_ERROR(caught->status());
  state_.set_tokens_seen(meter_.tokens_seen());
  return Report(**caught);
}

// Queues the step, and finishes the one before it; itself where nothing is gained by leaving it.
absl::Status TrainLoop::Step(int64_t step) {
  const bool profiled = parts_.profile != nullptr && parts_.profile->Takes(step);
  if (profiled) RETURN_IF_ERROR(FinishQueued());
  absl::StatusOr<absl::StatusOr<QueuedStep>> caught = CatchTorch([&] {
    if (profiled) parts_.profile->Before(step);
    return QueueStep(step);
  });
  if (!caught.ok()) return WithContext(caught.status(), absl::StrCat("step ", step + 1, ": "));
  RETURN_IF_ERROR(caught->status());
  RETURN_IF_ERROR(FinishQueued());
  queued_ = **std::move(caught);
  state_.set_step(step + 1);
  // Ranks agree on losses, one by one and between the same steps: with several none is late.
  if (!parts_.setup.step.ahead || ranks().size() > 1 || profiled) RETURN_IF_ERROR(FinishQueued());
  return profiled ? CatchTorchStatus([&] { parts_.profile->After(step); }) : absl::OkStatus();
}

absl::StatusOr<bool> TrainLoop::Run() {
  const int64_t first = state_.step();
  summary_.first_step = first;
  for (int64_t step = first; step < parts_.setup.feed.total_steps; ++step) {
    ASSIGN_OR_RETURN(const bool stop, StopAsked());
    if (stop) break;
    const absl::Status status = Step(step);
    if (absl::IsCancelled(status)) break;
    RETURN_IF_ERROR(status);
    if (EvaluationDue()) {
      RETURN_IF_ERROR(FinishQueued());
      const absl::Status evaluated = Evaluate();
      if (!evaluated.ok() && !absl::IsCancelled(evaluated)) return evaluated;
    }
    // A checkpoint that is asked for by a stop is written below.
    if (!StopAskedHere() && !stop_ && (checkpoint_asked_ || cadence_.Due(state_.step(), NowSeconds()))) {
      RETURN_IF_ERROR(SaveCheckpoint());
    }
  }
  RETURN_IF_ERROR(FinishQueued());
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
  const int64_t done = result.step + 1;
  if (done % every != 0 && done != parts_.setup.feed.total_steps) return absl::OkStatus();
  v1::TrainerUp event;
  v1::Progress& point = *event.mutable_progress();
  point = meter_.Point(done);
  point.set_loss(result.loss);
  point.set_learning_rate(result.learning_rate);
  point.set_grad_norm(result.grad_norm);
  // Of each rank its peak and how busy it is, in one exchange; a double holds every number of bytes below 2^53.
  const double mine[] = {static_cast<double>(PeakMemoryBytes(parts_.setup.model->options().device)),
                         utilization_.Read()};
  ASSIGN_OR_RETURN(const std::vector<double> all, SyncAcrossProcesses(std::span<const double>(mine), ranks()));
  double peak = 0, busy = 0;
  for (size_t i = 0; i < all.size(); i += 2) {
    peak = std::max(peak, all[i]);
    busy += all[i + 1];
  }
  point.set_peak_memory_bytes(static_cast<int64_t>(peak));
  point.set_utilization(2 * busy / static_cast<double>(all.size()));
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
  // Before any of its weights is kept, a step is known to be sound.
  RETURN_IF_ERROR(FinishQueued());
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
