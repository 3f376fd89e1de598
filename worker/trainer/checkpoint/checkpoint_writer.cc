#include "worker/trainer/checkpoint/checkpoint_writer.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/trainer/checkpoint/checkpoint_folder.h"
#include "worker/trainer/status/failure.h"

namespace studio {

CheckpointWriter::CheckpointWriter(Env& env, std::string folder, int rank, std::function<void(const Written&)> written)
    : env_(env), folder_(std::move(folder)), rank_(rank), written_(std::move(written)) {}

CheckpointWriter::~CheckpointWriter() {
  if (thread_.joinable()) thread_.join();
}

absl::Status CheckpointWriter::Start(Checkpoint checkpoint) {
  RETURN_IF_ERROR(Wait());
  thread_ = std::thread([this, checkpoint = std::move(checkpoint)] {
    const auto start = std::chrono::steady_clock::now();
    const std::string path = CheckpointPath(folder_, checkpoint.state.step());
    absl::StatusOr<v1::CheckpointManifest> manifest = WriteCheckpoint(env_, path, rank_, checkpoint);
    if (!manifest.ok()) {
      status_ = FailureError(v1::STORAGE, absl::StrCat("writing checkpoint ", path, ": ", manifest.status().message()));
      return;
    }
    written_({*std::move(manifest), std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()});
  });
  return absl::OkStatus();
}

absl::Status CheckpointWriter::Wait() {
  if (thread_.joinable()) thread_.join();
  return status_;
}

}  // namespace studio
