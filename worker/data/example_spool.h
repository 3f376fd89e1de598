// Examples on disk between tokenising and packing, so that memory does not grow with the data.
//
//   ASSIGN_OR_RETURN(ExampleSpool spool, ExampleSpool::Create("/data/tmp/spool"));
//   RETURN_IF_ERROR(spool.Append(example));
//   RETURN_IF_ERROR(spool.Finish());
//   spool.tokens(7), spool.learn(7), spool.lengths()
//
// The file is unlinked at once: it goes with the object or the process. Not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/data/example_maker.h"

namespace studio {

class ExampleSpool {
 public:
  static absl::StatusOr<ExampleSpool> Create(const std::string& path);
  ExampleSpool(ExampleSpool&& other) noexcept;
  ExampleSpool& operator=(ExampleSpool&&) = delete;
  ~ExampleSpool();

  absl::Status Append(const Example& example);
  // Ends writing; the examples can be read from here on.
  absl::Status Finish();

  size_t size() const { return lengths_.size(); }
  // Tokens of each example.
  std::span<const uint32_t> lengths() const { return lengths_; }
  std::span<const uint32_t> tokens(size_t example) const;
  std::span<const uint8_t> learn(size_t example) const;

 private:
  explicit ExampleSpool(int fd) : fd_(fd) {}
  absl::Status Flush();

  int fd_;
  std::string buffer_;
  std::vector<uint32_t> lengths_;
  // Where each example's tokens begin; its learn bytes follow them, padded to four.
  std::vector<uint64_t> offsets_;
  uint64_t bytes_ = 0;
  void* mapping_ = nullptr;
};

}  // namespace studio
