// Writing and reading one checkpoint: docs/checkpoint_format.md.
//
//   Checkpoint checkpoint = {.state = state, .tensors = CopyToHost(optimizer.State())};
//   ASSIGN_OR_RETURN(v1::CheckpointManifest manifest, WriteCheckpoint(env, folder, rank, checkpoint));
//
//   ASSIGN_OR_RETURN(v1::TrainingState state, ReadCheckpoint(env, folder, rank, run, optimizer.State()));
//
// ReadCheckpoint overwrites the given tensors once everything was checked, and nothing before. Statuses, no exceptions.
#pragma once

#include <ATen/core/TensorBody.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "worker/trainer/checkpoint/training_state.pb.h"

namespace studio {

inline constexpr int kCheckpointFormatVersion = 1;
inline constexpr char kManifestFile[] = "manifest.pb.txt";

using TensorsByName = std::vector<std::pair<std::string, at::Tensor>>;

struct Checkpoint {
  v1::TrainingState state;
  // fp32 or bytes, contiguous, in the host's memory.
  TensorsByName tensors;
};

// Copies, so that training may go on while they are written. Bytes stay bytes; any other type becomes fp32.
absl::StatusOr<TensorsByName> CopyToHost(const TensorsByName& tensors);

// Replaces what lies in `folder`. Durable on return, the manifest last.
absl::StatusOr<v1::CheckpointManifest> WriteCheckpoint(Env& env, const std::string& folder, int rank,
                                                       const Checkpoint& checkpoint);

// `run`: the state that this run would write; see CheckSameRun. DataLoss for a damaged checkpoint, FailedPrecondition
// for another run's; the message begins with the folder.
absl::StatusOr<v1::TrainingState> ReadCheckpoint(Env& env, const std::string& folder, int rank,
                                                 const v1::TrainingState& run, const TensorsByName& tensors);

// Checks everything but the files. `name` is for messages.
absl::StatusOr<v1::CheckpointManifest> ParseManifest(const std::string& text, const std::string& name);

// What lies beside the tensors, unchecked: for what must be known before there are tensors to read into. DataLoss where
// it is no such text.
absl::StatusOr<v1::TrainingState> ReadState(Env& env, const std::string& folder);

// The manifest alone.
absl::StatusOr<v1::CheckpointManifest> ReadManifest(Env& env, const std::string& folder);

}  // namespace studio
