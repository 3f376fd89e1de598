// Numbers, times and columns as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace studio::ctl {

std::string HumanBytes(double bytes);            // "1.9 GiB"
std::string HumanCount(double count);            // "1,234"
std::string HumanDuration(absl::Duration time);  // "42s", "3m05s", "2h10m", "5d"
absl::Time FromTimestamp(const google::protobuf::Timestamp& time);
std::string LocalTime(const google::protobuf::Timestamp& time);  // "2025-01-31 14:05:09"; "-" where it is not set

// Columns a terminal takes to show UTF-8 text; East Asian wide characters and emoji take two.
int DisplayWidth(absl::string_view text);
// At most `width` columns, ending in "…" where something was cut.
std::string Fitted(absl::string_view text, int width);
// Without control characters, so that no job's name or message can move a terminal's cursor. Newlines become spaces.
std::string Printable(absl::string_view text);

// Rows under each other, columns aligned, two spaces apart.
std::string Table(const std::vector<std::vector<std::string>>& rows);

}  // namespace studio::ctl
