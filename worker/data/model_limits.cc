#include "worker/data/model_limits.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/data/file_io.h"
#include "worker/data/json_file.h"

namespace studio {
namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kDefaultMaxLength = 2048;
constexpr int64_t kLargest = int64_t{1} << 31;

// 0 where the key is missing.
absl::StatusOr<int64_t> PositiveNumber(const Json& config, const char* key, const std::string& path) {
  auto found = config.find(key);
  if (found == config.end() || found->is_null()) return 0;
  if (!found->is_number_unsigned() || found->get<uint64_t>() == 0 || found->get<uint64_t>() > kLargest) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", key, " is ", Shown(*found), ", not a positive number"));
  }
  return found->get<int64_t>();
}

}  // namespace

absl::StatusOr<ModelLimits> ReadModelLimits(const std::string& model_dir) {
  const std::string path = model_dir + "/config.json";
  ASSIGN_OR_RETURN(std::string text, dataprep::ReadFile(path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(Json config, ParseJson(text, path));
  if (!config.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": holds ", KindOf(config), " where an object belongs"));
  }
  ModelLimits limits;
  ASSIGN_OR_RETURN(limits.vocab_size, PositiveNumber(config, "vocab_size", path));
  ASSIGN_OR_RETURN(limits.context, PositiveNumber(config, "max_position_embeddings", path));
  if (limits.context == 0) {
    ASSIGN_OR_RETURN(limits.context, PositiveNumber(config, "n_positions", path));
  }
  return limits;
}

absl::StatusOr<int64_t> ResolveMaxLength(int64_t max_length, const ModelLimits& limits) {
  if (max_length == 0) return limits.context == 0 ? kDefaultMaxLength : std::min(kDefaultMaxLength, limits.context);
  if (limits.context == 0 || max_length <= limits.context) return max_length;
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.max_length is ", max_length,
                                                 ", but the model's context is ", limits.context,
                                                 " tokens (max_position_embeddings of its config.json); "
                                                 "set at most ",
                                                 limits.context, ", or 0 for the default"));
}

}  // namespace studio
