#include "worker/trainer/model/tiny_model.h"

#include <ATen/ops/tensor.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "worker/trainer/model/counter_random.h"

namespace studio {

std::string TinyFolder(const std::string& name, const std::string& extra) {
  const char* temporary = std::getenv("TEST_TMPDIR");
  const std::string dir = absl::StrCat(temporary ? temporary : "/tmp", "/", name);
  std::filesystem::create_directories(dir);
  // A later key wins: `extra` may replace any of these.
  std::ofstream(dir + "/config.json") << R"({"model_type": "llama", "hidden_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 80, "vocab_size": 96,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "initializer_range": 0.2, "eos_token_id": 2)"
                                      << (extra.empty() ? "" : ", " + extra) << "}";
  return dir;
}

absl::StatusOr<std::unique_ptr<CausalLm>> LoadTiny(const std::string& name, ModelOptions options,
                                                   const std::string& extra) {
  options.pretrained = false;
  return CausalLm::Load(TinyFolder(name, extra), options);
}

Batch Segments(const std::vector<std::vector<int64_t>>& segments) {
  std::vector<int64_t> tokens, positions, labels;
  Batch batch;
  batch.cu_seqlens = {0};
  for (const std::vector<int64_t>& segment : segments) {
    for (size_t i = 0; i < segment.size(); ++i) {
      tokens.push_back(segment[i]);
      positions.push_back(static_cast<int64_t>(i));
      labels.push_back(i + 1 < segment.size() ? segment[i + 1] : -100);
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(tokens.size()));
  }
  batch.tokens = at::tensor(tokens, at::kLong);
  batch.positions = at::tensor(positions, at::kLong);
  batch.labels = at::tensor(labels, at::kLong);
  return batch;
}

std::vector<int64_t> RandomTokens(int64_t count, uint64_t seed) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int64_t>(RandomBits(seed, i) % 96));
  return tokens;
}

}  // namespace studio
