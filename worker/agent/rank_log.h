// What a rank prints: kept in a file of its own, counted, and its last lines at hand for an error message.
//
// Threading: belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/env/env.h"

namespace studio::worker {

class RankLog {
 public:
  // Largest local copy: what comes after it only the controller has, which keeps as much.
  static constexpr int64_t kMaxFileBytes = int64_t{1} << 30;

  // A file that cannot be written costs the local copy only.
  RankLog(Env& env, const std::string& path);

  // Returns the offset of `bytes` in the log.
  int64_t Append(std::string_view bytes);

  // The last lines, at most about 600 bytes, on one line.
  std::string LastWords() const;

 private:
  std::unique_ptr<AppendFile> file_;
  int64_t size_ = 0;
  std::string tail_;
};

}  // namespace studio::worker
