#include "worker/data/file_io.h"

#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio::dataprep {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  int64_t size = 0;
  ASSIGN_OR_RETURN(const Fd fd, OpenForRead(path, &size));
  if (size > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": larger than the ", max_bytes, " bytes allowed here"));
  }
  std::string text;
  text.reserve(size);
  RETURN_IF_ERROR(ReadAll(
      fd, path,
      [&](absl::string_view bytes) {
        text.append(bytes.data(), bytes.size());
        return absl::OkStatus();
      },
      max_bytes));
  return text;
}

absl::Status WriteFile(const std::string& path, absl::string_view contents) {
  ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create(path));
  RETURN_IF_ERROR(file.Append(contents));
  return file.SyncAndClose();
}

absl::StatusOr<FileWriter> FileWriter::Create(const std::string& path) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (fd.get() < 0) return FileError(errno, "write", path);
  return FileWriter(path, std::move(fd));
}

absl::Status FileWriter::Flush() {
  RETURN_IF_ERROR(WriteAll(fd_, buffer_, path_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status FileWriter::Append(absl::string_view bytes) {
  if (buffer_.size() + bytes.size() <= kBufferBytes) {
    buffer_.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Flush());
  return WriteAll(fd_, bytes, path_);
}

absl::Status FileWriter::SyncAndClose() {
  RETURN_IF_ERROR(Flush());
  RETURN_IF_ERROR(SyncFile(fd_, path_));
  fd_.Reset(-1);
  return absl::OkStatus();
}

}  // namespace studio::dataprep
