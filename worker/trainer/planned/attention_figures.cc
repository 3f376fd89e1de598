#include "worker/trainer/planned/attention_figures.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/status/check.h"

namespace studio::planned {
namespace {

// Keeps the order of the fields, which is the one of the struct.
using Json = nlohmann::ordered_json;

Json KeyJson(const AttentionKey& key) {
  return {{"device", key.device},     {"compute_capability", key.compute_capability},
          {"libtorch", key.libtorch}, {"dtype", key.dtype},
          {"heads", key.heads},       {"kv_heads", key.kv_heads},
          {"head_dim", key.head_dim}, {"longest", key.longest},
          {"tokens", key.tokens},     {"one_length", key.one_length}};
}

// A driver's name for a device that is no UTF-8 must not throw.
std::string Text(const Json& json, int indent) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::vector<AttentionKind> AttentionCandidates(bool one_length, int64_t head_dim) {
  // cuDNN's backward pass stops at 128.
  if (one_length && head_dim <= 128) return {AttentionKind::kCudnn, AttentionKind::kFlash};
  return {AttentionKind::kFlash};
}

AttentionKind Fastest(const AttentionFigures& figures) {
  STUDIO_CHECK(!figures.empty());
  return std::min_element(figures.begin(), figures.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

std::string DescribeFigures(const AttentionFigures& figures) {
  return absl::StrJoin(figures, ", ", [](std::string* out, const auto& figure) {
    absl::StrAppendFormat(out, "%s %.1f us", NameOf(figure.first), figure.second);
  });
}

std::string KeyText(const AttentionKey& key) { return Text(KeyJson(key), -1); }

std::string FiguresText(const AttentionKey& key, const AttentionFigures& figures) {
  Json json = KeyJson(key);
  json["fastest"] = NameOf(Fastest(figures));
  for (const auto& [kind, microseconds] : figures) json["microseconds"][std::string(NameOf(kind))] = microseconds;
  return Text(json, 2) + "\n";
}

absl::StatusOr<AttentionFigures> ParseFigures(absl::string_view text, const AttentionKey& key) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError("not a JSON object");
  // By way of its text, so that what was replaced there is replaced here.
  const Json wanted = Json::parse(KeyText(key));
  for (const auto& [name, value] : wanted.items()) {
    if (json.value(name, Json()) != value) return absl::DataLossError(absl::StrCat("'", name, "' is another key's"));
  }
  AttentionFigures figures;
  const Json microseconds = json.value("microseconds", Json());
  if (!microseconds.is_object()) return absl::DataLossError("'microseconds' is no object");
  for (const auto& [name, value] : microseconds.items()) {
    const std::optional<AttentionKind> kind = AttentionKindOf(name);
    if (!kind) return absl::DataLossError(absl::StrCat("'microseconds' has an unknown attention '", name, "'"));
    if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() <= 0) {
      return absl::DataLossError(absl::StrCat("'microseconds' of ", name, " is no number above 0"));
    }
    figures[*kind] = value.get<double>();
  }
  if (figures.empty()) return absl::DataLossError("'microseconds' is empty");
  if (json.value("fastest", Json()) != std::string(NameOf(Fastest(figures)))) {
    return absl::DataLossError("'fastest' contradicts 'microseconds'");
  }
  return figures;
}

}  // namespace studio::planned
