// What data preparation must know of the model: how many tokens it knows, and how many it can see.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace studio {

struct ModelLimits {
  // Rows of the embedding. 0: config.json does not say.
  int64_t vocab_size = 0;
  // Longest sequence, max_position_embeddings. 0: config.json does not say.
  int64_t context = 0;
};

// From config.json of the folder. NotFound without it, InvalidArgument where it is not what it should be.
absl::StatusOr<ModelLimits> ReadModelLimits(const std::string& model_dir);

// The job's max_length made a number: 0 → the smaller of 2,048 and the context. InvalidArgument above the context.
absl::StatusOr<int64_t> ResolveMaxLength(int64_t max_length, const ModelLimits& limits);

}  // namespace studio
