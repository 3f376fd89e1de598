// The loop of one rank: steps, evaluations, checkpoints and orders, from one step to another.
//
//   TrainLoop loop({task, setup, train_rows, validation_rows, link, env, …});
//   RETURN_IF_ERROR(loop.Resume(folder));                      // or from the beginning
//   ASSIGN_OR_RETURN(bool finished, loop.Run());               // false: it was told to stop, and has checkpointed
//
// Belongs to one thread; checkpoints are written by another of its own. What it borrows outlives it.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "worker/trainer/agent_link/rank_link.h"
#include "worker/trainer/checkpoint/cadence.h"
#include "worker/trainer/checkpoint/checkpoint_writer.h"
#include "worker/trainer/data_feed/batch_dump.h"
#include "worker/trainer/data_feed/row_store.h"
#include "worker/trainer/device/utilization.h"
#include "worker/trainer/loop/progress_meter.h"
#include "worker/trainer/loop/readback.h"
#include "worker/trainer/loop/setup.h"
#include "worker/trainer/loop/step_profile.h"
#include "worker/trainer/loop/summary.h"

namespace studio {

class TrainLoop {
 public:
  struct Parts {
    const v1::TrainerTask& task;
    RunSetup& setup;
    const RowStore& train_rows;
    const RowStore& validation_rows;
    RankLink& link;
    Env& env;
    // Names what checkpoints belong to; see checkpoint/identity.h.
    v1::TrainingState identity;
    BatchDump* dump = nullptr;
    const StepProfile* profile = nullptr;
  };

  TrainLoop(Parts parts, RunSummary& summary);

  // Takes over a checkpoint's tensors and counters.
  absl::Status Resume(const std::string& folder);
  // Steps done so far.
  int64_t step() const { return state_.step(); }
  v1::TrainingState& state() { return state_; }

  // Held-out loss now; nothing where no rows are held out. Cancelled where it was told to stop.
  absl::Status Evaluate();

  // Trains to the end. False where it was told to stop: the checkpoint, if it was wanted, is durable then.
  absl::StatusOr<bool> Run();

  // Reads orders; true once this rank was told to stop. Deletes checkpoints that recorded ones replace.
  bool StopAskedHere();
  // The same of all ranks, and every rank's answer is the same: all of them call it at the same places.
  absl::StatusOr<bool> StopAsked();
  // What StopAsked came to last, without asking.
  bool stopping() const { return stop_; }
  // With a stop: no checkpoint is wanted.
  bool discard() const { return discard_; }
  // Starts writing a checkpoint of the steps done: rank 0 does, since all have the same weights and states.
  absl::Status SaveCheckpoint();
  // The last checkpoint is durable, and older ones are gone where it is recorded already.
  absl::Status FinishCheckpoints();

 private:
  struct StepResult {
    int64_t step = 0;
    double loss = 0;
    double grad_norm = 0;
    double learning_rate = 0;
  };
  // All of its work is on the device, or on its way there.
  struct QueuedStep {
    int64_t step = 0;
    double start = 0;
    double learning_rate = 0;
    double valid_tokens = 0;
    int64_t tokens = 0;
    Readback numbers;
  };

  absl::Status Step(int64_t step);
  absl::StatusOr<QueuedStep> QueueStep(int64_t step);
  absl::StatusOr<StepResult> FinishStep(QueuedStep& queued);
  // Waits for the queued step, where there is one, and reports it.
  absl::Status FinishQueued();
  absl::Status Report(const StepResult& result);
  bool EvaluationDue() const;
  Ranks& ranks() { return *parts_.setup.ranks; }
  std::span<const uint32_t> OrderOf(int64_t step);

  Parts parts_;
  RunSummary& summary_;
  v1::TrainingState state_;
  ProgressMeter meter_;
  Utilization utilization_;
  // The step whose loss has not been read yet: at most one.
  std::optional<QueuedStep> queued_;
  double finished_at_ = 0;
  CheckpointCadence cadence_;
  CheckpointWriter writer_;
  std::atomic<double> write_seconds_ = 0;
  // The rows' order of one epoch.
  int64_t ordered_epoch_ = -1;
  std::vector<uint32_t> order_;
  // As this rank was told, and as all ranks agreed.
  bool stop_here_ = false, discard_here_ = false;
  bool stop_ = false, discard_ = false;
  bool checkpoint_asked_ = false;
};

}  // namespace studio
