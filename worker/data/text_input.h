// A stream of bytes that knows where it is: what the row readers read from.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<TextInput> input, TextInput::Open("data.jsonl"));
//   for (int c; (c = input->Get()) != TextInput::kEnd;) …    // input->line(), input->offset()
//   RETURN_IF_ERROR(input->status());                        // a failed read looks like the end
//
// A byte order mark at the start is passed over. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/artifact/sha256.h"

namespace studio {

class TextInput {
 public:
  static constexpr int kEnd = -1;
  // Longest row of a data file.
  static constexpr size_t kMaxRowBytes = size_t{256} << 20;

  static absl::StatusOr<std::unique_ptr<TextInput>> Open(const std::string& path);
  // Reads from memory; `name` is for messages.
  static std::unique_ptr<TextInput> FromString(std::string text, const std::string& name);

  TextInput(const TextInput&) = delete;
  TextInput& operator=(const TextInput&) = delete;
  ~TextInput();

  // The next byte, kept or taken.
  int Peek() { return next_ < buffer_.size() || Fill() ? static_cast<unsigned char>(buffer_[next_]) : kEnd; }
  int Get() {
    const int c = Peek();
    if (c == kEnd) return c;
    ++next_;
    if (c == '\n') ++line_;
    return c;
  }
  // Everything up to the next line feed or the end, without it. False at the end.
  bool GetLine(std::string* line);
  void SkipWhiteSpace();

  const std::string& name() const { return name_; }
  // Of the next byte: lines count from 1, bytes from 0.
  int64_t line() const { return line_; }
  int64_t offset() const { return base_ + static_cast<int64_t>(next_); }
  const absl::Status& status() const { return status_; }

  // "data.jsonl:7"
  std::string At(int64_t line) const;
  // InvalidArgument where `text`, which began at that line and offset, is not UTF-8.
  absl::Status CheckUtf8(absl::string_view text, int64_t line, int64_t offset) const;

  // Of all bytes of the input; once, at its end.
  std::string HexDigest() { return hash_.Hex(); }

 private:
  TextInput(std::string name, int fd) : name_(std::move(name)), fd_(fd) {}
  bool Fill();
  void SkipByteOrderMark();

  std::string name_;
  int fd_;
  std::string buffer_;
  size_t next_ = 0;
  int64_t base_ = 0;
  int64_t line_ = 1;
  absl::Status status_;
  Sha256 hash_;
};

}  // namespace studio
