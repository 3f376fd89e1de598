// Writes checkpoints while training goes on, one at a time.
//
//   CheckpointWriter writer(env, "/out/checkpoints", /*rank=*/0, [&](const CheckpointWriter::Written& w) { … });
//   RETURN_IF_ERROR(writer.Start(std::move(checkpoint)));   // between two steps
//   RETURN_IF_ERROR(writer.Wait());                         // before the process ends
//
// `written` runs on the writing thread, once for each checkpoint that is durable. The Env must be safe from any thread
// and outlive the writer. Start and Wait belong to one thread.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "common/env/env.h"
#include "worker/trainer/checkpoint/checkpoint.h"

namespace studio {

class CheckpointWriter {
 public:
  struct Written {
    v1::CheckpointManifest manifest;
    double seconds = 0;
  };

  CheckpointWriter(Env& env, std::string folder, int rank, std::function<void(const Written&)> written);
  ~CheckpointWriter();

  // Waits for the one before, and returns its error where it failed.
  absl::Status Start(Checkpoint checkpoint);
  // OK once the last one is durable.
  absl::Status Wait();

 private:
  Env& env_;
  const std::string folder_;
  const int rank_;
  const std::function<void(const Written&)> written_;
  std::thread thread_;
  // Of the last write; read after the thread was joined.
  absl::Status status_;
};

}  // namespace studio
