#include "controller/logs/attempt_logs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "controller/logs/point_file.h"

namespace studio::controller {
namespace {

// Far above what runs at once.
constexpr size_t kMaxOpenPoints = 4096;

class File {
 public:
  File(const std::string& path, int flags) : path_(path), fd_(open(path.c_str(), flags | O_CLOEXEC, 0640)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool missing() const { return fd_ < 0 && errno == ENOENT; }
  absl::Status Opened() const { return fd_ >= 0 ? absl::OkStatus() : Error("open"); }
  int64_t size() const {
    struct stat info;
    return fstat(fd_, &info) == 0 ? info.st_size : 0;
  }
  absl::Status WriteAt(int64_t offset, std::string_view data) const {
    while (!data.empty()) {
      const ssize_t written = pwrite(fd_, data.data(), data.size(), offset);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return Error("write");
      offset += written;
      data.remove_prefix(written);
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> ReadAt(int64_t offset, size_t max_bytes) const {
    std::string data(max_bytes, '\0');
    size_t filled = 0;
    while (filled < max_bytes) {
      const ssize_t got = pread(fd_, data.data() + filled, max_bytes - filled, offset + filled);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Error("read");
      if (got == 0) break;
      filled += got;
    }
    data.resize(filled);
    return data;
  }
  absl::Status Truncate(int64_t size) const { return ftruncate(fd_, size) == 0 ? absl::OkStatus() : Error("truncate"); }

 private:
  absl::Status Error(const char* doing) const {
    const absl::StatusCode code = errno == ENOSPC ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal;
    return absl::Status(code, absl::StrCat(doing, " ", path_, ": ", std::strerror(errno)));
  }
  const std::string path_;
  const int fd_;
};

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return absl::InternalError(absl::StrCat("make folder ", path, ": ", error.message()));
  return absl::OkStatus();
}

}  // namespace

std::string AttemptLogs::Folder(const std::string& job_id, int attempt) const {
  return absl::StrCat(folder_, "/", job_id, "/", attempt);
}

std::string AttemptLogs::LogPath(const std::string& job_id, int attempt, int rank) const {
  return absl::StrCat(Folder(job_id, attempt), "/rank-", rank, ".log");
}

std::string AttemptLogs::PointPath(const std::string& job_id, int attempt) const {
  return absl::StrCat(Folder(job_id, attempt), "/points");
}

absl::Status AttemptLogs::AppendLog(const std::string& job_id, int attempt, int rank, int64_t offset,
                                    std::string_view data) {
  if (offset < 0 || offset > kMaxLogBytes - static_cast<int64_t>(data.size())) {
    return absl::ResourceExhaustedError(absl::StrCat("job ", job_id, " attempt ", attempt, " rank ", rank,
                                                     ": log offset ", offset, " is beyond ", kMaxLogBytes, " bytes"));
  }
  RETURN_IF_ERROR(MakeFolder(Folder(job_id, attempt)));
  const File file(LogPath(job_id, attempt, rank), O_WRONLY | O_CREAT);
  RETURN_IF_ERROR(file.Opened());
  for (int64_t size = file.size(); size < offset;) {
    const std::string lost(std::min<int64_t>(offset - size, 1 << 16), '\n');
    RETURN_IF_ERROR(file.WriteAt(size, lost));
    size += lost.size();
  }
  return file.WriteAt(offset, data);
}

absl::StatusOr<std::string> AttemptLogs::ReadLog(const std::string& job_id, int attempt, int rank, int64_t offset,
                                                 size_t max_bytes) const {
  const File file(LogPath(job_id, attempt, rank), O_RDONLY);
  if (file.missing()) return std::string();
  RETURN_IF_ERROR(file.Opened());
  return file.ReadAt(std::max<int64_t>(0, offset), max_bytes);
}

absl::StatusOr<std::vector<v1::Progress>> AttemptLogs::AppendPoints(const std::string& job_id, int attempt,
                                                                    const std::vector<v1::Progress>& points) {
  RETURN_IF_ERROR(MakeFolder(Folder(job_id, attempt)));
  const std::string path = PointPath(job_id, attempt);
  const File file(path, O_RDWR | O_CREAT);
  RETURN_IF_ERROR(file.Opened());
  auto found = points_.find(path);
  if (found == points_.end()) {
    ASSIGN_OR_RETURN(const std::string bytes, file.ReadAt(0, file.size()));
    const PointFile before = ParsePoints(bytes);
    RETURN_IF_ERROR(file.Truncate(before.valid_bytes));
    OpenPoints opened;
    opened.size = before.valid_bytes;
    if (!before.points.empty()) opened.last = before.points.back();
    if (points_.size() >= kMaxOpenPoints) points_.clear();
    found = points_.emplace(path, std::move(opened)).first;
  }
  OpenPoints& state = found->second;
  std::vector<v1::Progress> kept;
  v1::Progress last = state.last;
  std::string bytes;
  for (const v1::Progress& point : points) {
    if (!IsAfter(point, last)) continue;
    last = point;
    bytes += EncodePoint(point);
    kept.push_back(point);
  }
  RETURN_IF_ERROR(file.WriteAt(state.size, bytes));
  state.size += bytes.size();
  state.last = std::move(last);
  return kept;
}

absl::StatusOr<std::vector<v1::Progress>> AttemptLogs::ReadPoints(const std::string& job_id, int attempt) const {
  const File file(PointPath(job_id, attempt), O_RDONLY);
  if (file.missing()) return std::vector<v1::Progress>();
  RETURN_IF_ERROR(file.Opened());
  ASSIGN_OR_RETURN(const std::string bytes, file.ReadAt(0, file.size()));
  return ParsePoints(bytes).points;
}

std::vector<std::string> AttemptLogs::Untouched(absl::Duration untouched) const {
  namespace fs = std::filesystem;
  const auto oldest = fs::file_time_type::clock::now() - absl::ToChronoSeconds(untouched);
  std::vector<std::string> jobs;
  std::error_code error;
  for (const fs::directory_entry& job : fs::directory_iterator(folder_, error)) {
    bool old = true;
    for (fs::recursive_directory_iterator it(job.path(), error), end; old && it != end; it.increment(error)) {
      old = !error && fs::last_write_time(it->path(), error) <= oldest;
    }
    if (old && !error) jobs.push_back(job.path().filename().string());
  }
  std::sort(jobs.begin(), jobs.end());
  return jobs;
}

absl::Status AttemptLogs::Remove(const std::string& job_id) {
  const std::string folder = absl::StrCat(folder_, "/", job_id);
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  if (error) return absl::InternalError(absl::StrCat("remove ", folder, ": ", error.message()));
  std::erase_if(points_, [prefix = folder + "/"](const auto& points) { return points.first.starts_with(prefix); });
  return absl::OkStatus();
}

std::optional<v1::Progress> AttemptLogs::LastPoint(const std::string& job_id, int attempt) const {
  const absl::StatusOr<std::vector<v1::Progress>> points = ReadPoints(job_id, attempt);
  if (!points.ok() || points->empty()) return std::nullopt;
  return points->back();
}

}  // namespace studio::controller
