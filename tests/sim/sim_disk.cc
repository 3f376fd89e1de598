#include "tests/sim/sim_disk.h"

#include "common/status/macros.h"

namespace studio::sim {
namespace {

class SimAppendFile : public AppendFile {
 public:
  SimAppendFile(SimDisk& disk, std::string path, std::unique_ptr<AppendFile> file)
      : disk_(disk), path_(std::move(path)), file_(std::move(file)) {}

  absl::Status Append(std::string_view bytes) override {
    return disk_.Change([&] { return file_->Append(bytes); });
  }
  absl::Status Sync() override {
    const absl::Status status = disk_.Change([&] { return file_->Sync(); });
    if (status.ok()) disk_.Synced(path_);
    return status;
  }

 private:
  SimDisk& disk_;
  const std::string path_;
  const std::unique_ptr<AppendFile> file_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AppendFile>> SimDisk::OpenAppend(const std::string& path) {
  std::unique_ptr<AppendFile> file;
  RETURN_IF_ERROR(Change([&]() -> absl::Status {
    ASSIGN_OR_RETURN(file, files_.OpenAppend(path));
    return absl::OkStatus();
  }));
  return std::make_unique<SimAppendFile>(*this, path, std::move(file));
}

}  // namespace studio::sim
