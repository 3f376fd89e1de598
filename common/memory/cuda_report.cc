#include "common/memory/cuda_report.h"

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace studio {
namespace {

// "1.95 GiB" after `words`, in bytes, as c10's format_size writes it.
std::optional<double> SizeAfter(absl::string_view text, absl::string_view words) {
  const size_t at = text.find(words);
  if (at == absl::string_view::npos) return std::nullopt;
  const std::vector<absl::string_view> parts =
      absl::StrSplit(text.substr(at + words.size()), absl::MaxSplits(absl::ByAnyChar(" .;"), 3));
  // "1", "95", "GiB", … or "512", "bytes", …
  std::string number(parts[0]);
  size_t unit = 1;
  if (parts.size() > 2 && !parts[1].empty() && absl::ascii_isdigit(parts[1][0])) {
    number += "." + std::string(parts[1]);
    unit = 2;
  }
  double value = 0;
  if (parts.size() <= unit || !absl::SimpleAtod(number, &value)) return std::nullopt;
  if (parts[unit] == "gib") return value * (1 << 30);
  if (parts[unit] == "mib") return value * (1 << 20);
  if (parts[unit] == "kib") return value * (1 << 10);
  if (parts[unit] == "bytes") return value;
  return std::nullopt;
}

}  // namespace

bool FitsWithoutOthers(std::string_view message) {
  const std::string text = absl::AsciiStrToLower(absl::string_view(message.data(), message.size()));
  if (text.find(" allowed;") != std::string::npos) return false;
  const std::optional<double> tried = SizeAfter(text, "tried to allocate ");
  const std::optional<double> capacity = SizeAfter(text, "total capacity of ");
  const std::optional<double> own = SizeAfter(text, "this process has ");
  return tried && capacity && own && *tried + *own <= *capacity;
}

}  // namespace studio
