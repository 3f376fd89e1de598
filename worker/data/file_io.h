// Files of data preparation: whole reads and durable writes, over common/artifact/file_io.
//
//   ASSIGN_OR_RETURN(std::string text, ReadFile("config.json", 64 << 20));
//   ASSIGN_OR_RETURN(FileWriter file, FileWriter::Create("x.tmp"));
//   RETURN_IF_ERROR(file.Append("…"));
//   RETURN_IF_ERROR(file.SyncAndClose());
//
// Errors name the path. NotFound where a file is absent, ResourceExhausted where the disk is full.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/artifact/file_io.h"

namespace studio::dataprep {

// InvalidArgument where the file is larger than max_bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes);

// Whole and synced, or an error.
absl::Status WriteFile(const std::string& path, absl::string_view contents);

// A new or emptied file, written through a buffer. Not thread-safe.
class FileWriter {
 public:
  static absl::StatusOr<FileWriter> Create(const std::string& path);
  absl::Status Append(absl::string_view bytes);
  absl::Status SyncAndClose();

 private:
  FileWriter(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  absl::Status Flush();

  std::string path_;
  Fd fd_;
  std::string buffer_;
};

}  // namespace studio::dataprep
