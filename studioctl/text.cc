#include "studioctl/text.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace studio::ctl {
namespace {

// The character at `at`, and where the next one begins. A broken byte counts as one character.
char32_t Decode(absl::string_view text, size_t& at) {
  const unsigned char lead = text[at++];
  if (lead < 0x80) return lead;
  const int more = lead >> 5 == 0b110 ? 1 : lead >> 4 == 0b1110 ? 2 : lead >> 3 == 0b11110 ? 3 : 0;
  char32_t code = lead & (0x3F >> more);
  for (int i = 0; i < more && at < text.size() && (text[at] & 0xC0) == 0x80; ++i)
    code = code << 6 | (text[at++] & 0x3F);
  return code;
}

int Columns(char32_t code) {
  if (code < 0x300) return 1;
  if ((code >= 0x300 && code <= 0x36F) || (code >= 0x200B && code <= 0x200F) || (code >= 0xFE00 && code <= 0xFE0F)) {
    return 0;  // combining marks, joiners, variation selectors
  }
  const bool wide = (code >= 0x1100 && code <= 0x115F) || (code >= 0x2E80 && code <= 0xA4CF) ||
                    (code >= 0xAC00 && code <= 0xD7A3) || (code >= 0xF900 && code <= 0xFAFF) ||
                    (code >= 0xFE30 && code <= 0xFE6F) || (code >= 0xFF00 && code <= 0xFF60) ||
                    (code >= 0x1F300 && code <= 0x1FAFF) || (code >= 0x20000 && code <= 0x3FFFD);
  return wide ? 2 : 1;
}

}  // namespace

std::string HumanBytes(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrFormat("%.0f B", bytes) : absl::StrFormat("%.1f %s", bytes, units[unit]);
}

std::string HumanCount(double count) {
  std::string digits = absl::StrFormat("%.0f", count);
  for (int at = static_cast<int>(digits.size()) - 3; at > (digits[0] == '-' ? 1 : 0); at -= 3)
    digits.insert(at, 1, ',');
  return digits;
}

std::string HumanDuration(absl::Duration time) {
  const int64_t seconds = std::max<int64_t>(0, absl::ToInt64Seconds(time));
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  if (seconds < 48 * 3600) return absl::StrFormat("%dh%02dm", seconds / 3600, seconds / 60 % 60);
  return absl::StrCat(seconds / 86400, "d");
}

absl::Time FromTimestamp(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

std::string LocalTime(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", FromTimestamp(time), absl::LocalTimeZone());
}

int DisplayWidth(absl::string_view text) {
  int width = 0;
  for (size_t at = 0; at < text.size();) width += Columns(Decode(text, at));
  return width;
}

std::string Fitted(absl::string_view text, int width) {
  if (DisplayWidth(text) <= width) return std::string(text);
  if (width <= 0) return "";
  int used = 0;
  size_t end = 0;
  for (size_t at = 0; at < text.size(); end = at) {
    used += Columns(Decode(text, at));
    if (used > width - 1) break;
  }
  return absl::StrCat(text.substr(0, end), "…");
}

std::string Printable(absl::string_view text) {
  std::string printable;
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t code = Decode(text, at);
    if (code == '\n' || code == '\t' || code == '\r') {
      printable.push_back(' ');
    } else if (code >= 0x20 && code != 0x7F && !(code >= 0x80 && code < 0xA0)) {
      printable.append(text.data() + start, at - start);
    }
  }
  return printable;
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<int> widths;
  for (const std::vector<std::string>& row : rows) {
    if (row.size() > widths.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - DisplayWidth(row[i]) + 2, ' ');
    }
    text += '\n';
  }
  return text;
}

}  // namespace studio::ctl
