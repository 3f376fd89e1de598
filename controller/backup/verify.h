// Whether what a controller has on its disk holds together: a state folder whose controller does not run, or a backup.
//
//   ASSIGN_OR_RETURN(Verified found, VerifyFolder("/var/lib/studio"));
//   for (const std::string& problem : found.problems) …
//
// Blocking: reads every blob that a job names.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "controller/store/store.h"

namespace studio::controller {

struct Verified {
  // A sentence each, in the order of the jobs. Empty: all is well.
  std::vector<std::string> problems;
  int64_t jobs = 0;
  // Of which only the records are kept.
  int64_t archived = 0;
  int64_t blobs = 0;
  int64_t blob_bytes = 0;
};

// FailedPrecondition where a controller runs on the folder, NotFound where no store is in it; what is wrong inside is
// in `problems`.
absl::StatusOr<Verified> VerifyFolder(const std::string& folder);

// The invariants of docs/failure_model.md that records show by themselves. `archived`: the numbers of the archive's
// jobs.
std::vector<std::string> BrokenInvariants(const StoreContents& contents, const std::set<int64_t>& archived = {});

}  // namespace studio::controller
