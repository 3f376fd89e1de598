#include "worker/agent/rank_log.h"

#include <spdlog/spdlog.h>

#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace studio::worker {
namespace {

constexpr size_t kTailBytes = 600;

}  // namespace

RankLog::RankLog(Env& env, const std::string& path) {
  absl::StatusOr<std::unique_ptr<AppendFile>> file = env.OpenAppend(path);
  if (file.ok()) {
    file_ = *std::move(file);
  } else {
    spdlog::warn("log: {}", file.status().ToString());
  }
}

int64_t RankLog::Append(std::string_view bytes) {
  if (size_ > kMaxFileBytes) file_ = nullptr;
  if (file_ != nullptr) {
    if (const absl::Status status = file_->Append(bytes); !status.ok()) {
      spdlog::warn("log: {}", status.ToString());
      file_ = nullptr;
    }
  }
  const int64_t offset = size_;
  size_ += static_cast<int64_t>(bytes.size());
  tail_.append(bytes.substr(bytes.size() - std::min(bytes.size(), kTailBytes)));
  if (tail_.size() > 2 * kTailBytes) tail_.erase(0, tail_.size() - kTailBytes);
  return offset;
}

std::string RankLog::LastWords() const {
  std::string words = tail_.substr(tail_.size() - std::min(tail_.size(), kTailBytes));
  // Bytes of a character that was cut, and whatever else is no text, must not spoil the message.
  for (char& c : words) {
    if (c != '\n' && (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e)) c = '?';
  }
  const std::vector<std::string> lines = absl::StrSplit(words, '\n', absl::SkipWhitespace());
  return absl::StrJoin(lines, " | ");
}

}  // namespace studio::worker
