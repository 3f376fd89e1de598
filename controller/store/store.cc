#include "controller/store/store.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace studio::controller {

std::string JobId(int64_t number) { return absl::StrCat("j", number); }

absl::StatusOr<int64_t> JobNumber(const std::string& id) {
  int64_t number = 0;
  // The round trip refuses "j007" and "j+7", which would be second names of one job.
  if (id.empty() || id[0] != 'j' || !absl::SimpleAtoi(absl::string_view(id).substr(1), &number) || number <= 0 ||
      JobId(number) != id) {
    return absl::NotFoundError(absl::StrCat("no job \"", id, "\": ids look like j7; `studioctl list` shows them"));
  }
  return number;
}

absl::Status NoJob(int64_t number) {
  return absl::NotFoundError(absl::StrCat("no job ", JobId(number), "; `studioctl list` shows those there are"));
}

}  // namespace studio::controller
