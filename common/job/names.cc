#include "common/job/names.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace studio {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;

// Levenshtein, one row at a time.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

void CollectPaths(const Descriptor& message, const std::string& prefix, absl::string_view name,
                  std::vector<std::string>& paths) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (field.name() == name) paths.push_back(prefix + field.name());
    if (field.message_type() != nullptr && !field.is_map() && !field.is_repeated()) {
      CollectPaths(*field.message_type(), absl::StrCat(prefix, field.name(), "."), name, paths);
    }
  }
}

}  // namespace

std::optional<std::string> NearestName(absl::string_view word, const std::vector<std::string>& names) {
  if (word.size() > 100) return std::nullopt;
  const std::string lower = absl::AsciiStrToLower(word);
  std::optional<std::string> nearest;
  size_t least = std::max<size_t>(word.size() / 3, 1) + 1;
  for (const std::string& name : names) {
    const size_t distance = EditDistance(lower, absl::AsciiStrToLower(name));
    if (distance < least) {
      least = distance;
      nearest = name;
    }
  }
  return nearest;
}

std::vector<std::string> FieldNames(const Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return names;
}

std::vector<std::string> ValueNames(const EnumDescriptor& values) {
  std::vector<std::string> names;
  for (int i = 0; i < values.value_count(); ++i) names.push_back(values.value(i)->name());
  return names;
}

std::vector<std::string> PathsOf(const Descriptor& root, absl::string_view name) {
  std::vector<std::string> paths;
  CollectPaths(root, "", name, paths);
  return paths;
}

std::string SuggestField(absl::string_view word, const Descriptor& message, const Descriptor* root) {
  // Right name, wrong section: more likely than a slip of the finger.
  if (root != nullptr) {
    const std::vector<std::string> elsewhere = PathsOf(*root, word);
    if (!elsewhere.empty()) return absl::StrCat(" (did you mean '", absl::StrJoin(elsewhere, "' or '"), "'?)");
  }
  if (const auto nearest = NearestName(word, FieldNames(message)))
    return absl::StrCat(" (did you mean '", *nearest, "'?)");
  return absl::StrCat(" (known: ", absl::StrJoin(FieldNames(message), ", "), ")");
}

}  // namespace studio
