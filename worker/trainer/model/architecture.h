// A model's shape and options, read from config.json as Transformers 5 reads it: the architecture is data.
//
//   ASSIGN_OR_RETURN(Architecture arch, ReadArchitecture("smollm2"));
//   arch.head_dim * arch.num_heads …
//
// Pure: no LibTorch. A further family of the same kind of decoder is a row in architecture.cc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace studio {

enum class RopeKind { kDefault, kLinear, kDynamic, kLlama3, kYarn };

// Rotary position embedding (arXiv:2104.09864) and how it is stretched.
struct RopeOptions {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000;
  double factor = 1;
  // llama3 and yarn: the context before stretching.
  double original_max_positions = 0;
  // llama3.
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  // yarn (arXiv:2309.00071). attention_factor 0: from `factor` (and mscale, mscale_all_dim where both are set).
  double attention_factor = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 0;
  double mscale_all_dim = 0;
  bool truncate = true;
};

struct Architecture {
  std::string model_type;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  // Need not be hidden_size / num_heads.
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;
  int64_t vocab_size = 0;
  int64_t max_positions = 0;
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  // Logits become cap * tanh(logits / cap) (Gemma 2, arXiv:2408.00118). 0: they stay.
  double final_logit_soft_cap = 0;
  // Biases of q, k, v and of o apart: Qwen2 has the first alone.
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  RopeOptions rope;
  // Type that the weights are stored in ("bfloat16"), as config.json says. Empty: not said.
  std::string stored_dtype;
  std::vector<int64_t> eos_token_ids;

  int64_t q_size() const { return num_heads * head_dim; }
  int64_t kv_size() const { return num_kv_heads * head_dim; }
  // Number of weights, embeddings once where they are tied.
  int64_t ParameterCount() const;
};

// InvalidArgument names `file_name`, the key and what it should be; an unknown model_type names those supported.
absl::StatusOr<Architecture> ParseArchitecture(std::string_view json, std::string_view file_name);
// NotFound where `dir` has no config.json.
absl::StatusOr<Architecture> ReadArchitecture(const std::string& dir);

}  // namespace studio
