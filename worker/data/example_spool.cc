#include "worker/data/example_spool.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

absl::Status Failed(absl::string_view action) {
  const int error = errno;
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError("data preparation: the disk of the data folder is full");
  }
  return absl::ErrnoToStatus(error, absl::StrCat("data preparation: cannot ", action, " its temporary file"));
}

}  // namespace

absl::StatusOr<ExampleSpool> ExampleSpool::Create(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return Failed("create");
  unlink(path.c_str());
  return ExampleSpool(fd);
}

ExampleSpool::ExampleSpool(ExampleSpool&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      buffer_(std::move(other.buffer_)),
      lengths_(std::move(other.lengths_)),
      offsets_(std::move(other.offsets_)),
      bytes_(other.bytes_),
      mapping_(std::exchange(other.mapping_, nullptr)) {}

ExampleSpool::~ExampleSpool() {
  if (mapping_ != nullptr) munmap(mapping_, bytes_);
  if (fd_ >= 0) close(fd_);
}

absl::Status ExampleSpool::Append(const Example& example) {
  STUDIO_CHECK(mapping_ == nullptr && example.tokens.size() == example.learn.size()) << lengths_.size();
  lengths_.push_back(static_cast<uint32_t>(example.tokens.size()));
  offsets_.push_back(bytes_);
  const size_t before = buffer_.size();
  buffer_.append(reinterpret_cast<const char*>(example.tokens.data()), example.tokens.size() * sizeof(uint32_t));
  buffer_.append(reinterpret_cast<const char*>(example.learn.data()), example.learn.size());
  buffer_.append((4 - example.learn.size() % 4) % 4, '\0');
  bytes_ += buffer_.size() - before;
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status ExampleSpool::Flush() {
  absl::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t n = write(fd_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("write");
    rest.remove_prefix(n);
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status ExampleSpool::Finish() {
  RETURN_IF_ERROR(Flush());
  if (bytes_ == 0) return absl::OkStatus();
  void* mapping = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd_, 0);
  if (mapping == MAP_FAILED) return Failed("map");
  mapping_ = mapping;
  return absl::OkStatus();
}

std::span<const uint32_t> ExampleSpool::tokens(size_t example) const {
  const char* base = static_cast<const char*>(mapping_) + offsets_[example];
  return {reinterpret_cast<const uint32_t*>(base), lengths_[example]};
}

std::span<const uint8_t> ExampleSpool::learn(size_t example) const {
  const char* base = static_cast<const char*>(mapping_) + offsets_[example] + lengths_[example] * sizeof(uint32_t);
  return {reinterpret_cast<const uint8_t*>(base), lengths_[example]};
}

}  // namespace studio
