// For tests: tiny models with random weights, and batches.
//
//   ASSERT_OK_AND_ASSIGN(auto model, LoadTiny("name", options));    // 2 layers, 4 heads sharing 2, untied
//   Batch batch = Segments({{1, 2, 3}, {4, 5}});                    // every token but a segment's first is learnt
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/trainer/model/causal_lm.h"

namespace studio {

// Writes config.json into a fresh folder of the test's and returns the folder. `extra`: more keys, as JSON without
// braces ("\"attention_bias\": true").
std::string TinyFolder(const std::string& name, const std::string& extra = "");
// Draws the weights from options.seed.
absl::StatusOr<std::unique_ptr<CausalLm>> LoadTiny(const std::string& name, ModelOptions options,
                                                   const std::string& extra = "");
Batch Segments(const std::vector<std::vector<int64_t>>& segments);
// So many tokens of the tiny vocabulary (96), by counter.
std::vector<int64_t> RandomTokens(int64_t count, uint64_t seed);

}  // namespace studio
