// A program whose disk fails in its first life, and which is then started again with a disk that is well, as a service
// manager would: a small script in its place. What fails is one call on its files, by a preloaded library
// (ill_disk.cc).
//
//   ASSIGN_OR_RETURN(const IllProgram ill, IllProgram::Create(folder, "controller/studio-controller",
//                                                             {.under = folder + "/controller", .nth = 3}));
//   Cluster cluster(folder, {.controller = ill.program()});
//   …
//   ill.failed()          // the file whose third sync failed, or empty: it never came so far
//   ill.AwaitFirstEnd()   // the exit code of the first life
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/env/unique_fd.h"

namespace studio {

class IllProgram {
 public:
  enum class Call { kWrite, kSync };
  // kOnce: the call alone fails, with EIO, as a kernel reports what it could not write back: the next one is well.
  // kFull: it and all after it fail with ENOSPC, until Free().
  enum class Error { kOnce, kFull };
  struct Fault {
    std::string under;  // files whose path begins so; with a '$' at its end, the one file of this path
    Call call = Call::kSync;
    Error error = Error::kOnce;
    int nth = 1;
  };

  // `folder` is there; the script and its notes get names beside each other in it.
  static absl::StatusOr<IllProgram> Create(const std::string& folder, const std::string& program, const Fault& fault);

  const std::string& program() const { return script_; }
  void Free() const;
  std::string failed() const;
  // Files that were synced after they had failed to be: what was lost then is never noticed.
  std::vector<std::string> synced_again() const;
  // DeadlineExceeded where it goes on for longer than Patience of half a minute.
  absl::StatusOr<int> AwaitFirstEnd() const;
  bool first_life_ended() const;

 private:
  IllProgram(std::string script, UniqueFd ends) : script_(std::move(script)), ends_(std::move(ends)) {}
  std::vector<std::string> Noted(const std::string& what) const;

  std::string script_;
  UniqueFd ends_;  // a FIFO, for the exit code
};

}  // namespace studio
