#include "common/safetensors/writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio::safetensors {

absl::StatusOr<std::unique_ptr<Writer>> Writer::Create(const std::string& path, const std::vector<TensorSpec>& tensors,
                                                       const std::map<std::string, std::string>& metadata) {
  std::unique_ptr<Writer> writer(new Writer());
  ASSIGN_OR_RETURN(const std::string start, MakeHeader(tensors, metadata, &writer->infos_));
  writer->path_ = path;
  writer->temporary_ = absl::StrCat(path, ".tmp");
  writer->fd_ = open(writer->temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (writer->fd_ < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", writer->temporary_));
  RETURN_IF_ERROR(writer->Write(start));
  return writer;
}

Writer::~Writer() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

absl::Status Writer::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", temporary_));
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status Writer::Append(std::string_view bytes) {
  if (next_ >= infos_.size()) {
    return absl::FailedPreconditionError(absl::StrCat(path_, ": all ", infos_.size(), " tensors are written"));
  }
  const TensorInfo& info = infos_[next_];
  if (bytes.size() != info.bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": tensor '", info.name, "' takes ", info.bytes(), " bytes, got ", bytes.size()));
  }
  RETURN_IF_ERROR(Write(bytes));
  ++next_;
  return absl::OkStatus();
}

absl::Status Writer::Finish() {
  if (next_ != infos_.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": ", next_, " of ", infos_.size(), " tensors are written"));
  }
  const bool synced = fsync(fd_) == 0;
  const int error = errno;
  close(fd_);
  fd_ = -1;
  if (!synced) {
    unlink(temporary_.c_str());
    return absl::ErrnoToStatus(error, absl::StrCat("cannot sync ", temporary_));
  }
  if (rename(temporary_.c_str(), path_.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", temporary_));
  }
  return absl::OkStatus();
}

}  // namespace studio::safetensors
