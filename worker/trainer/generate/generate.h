// Answers by a model, one token after another.
//
//   GenerateOptions options;                       // greedy by default
//   std::vector<int64_t> answer = Generate(model, prompt_tokens, options);
//
// Sampling draws by counter from (seed, stream, place): the same prompt gives the same answer whatever else runs.
// Throws what LibTorch throws: run inside CatchTorch. One thread at a time.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "worker/trainer/model/causal_lm.h"

namespace studio {

struct GenerateOptions {
  int64_t max_new_tokens = 128;
  // The answer ends before any of these. Empty: the model's eos_token_ids.
  std::vector<int64_t> stop_tokens;
  // Draw from the distribution; else the likeliest token.
  bool do_sample = false;
  double temperature = 1;
  // 0: all.
  int64_t top_k = 0;
  double top_p = 1;
  // Logits of tokens that occurred are divided (or, below zero, multiplied) by it (arXiv:1909.05858).
  double repetition_penalty = 1;
  uint64_t seed = 1;
  // Tells prompts of one seed apart.
  uint64_t stream = 0;
  // Asked before each token; true ends the answer.
  std::function<bool()> stopped;
};

// The new tokens alone. An empty prompt gives none.
std::vector<int64_t> Generate(CausalLm& model, const std::vector<int64_t>& prompt, const GenerateOptions& options);

// One choice from logits [vocab_size] fp32 on the CPU (changed in place), in Transformers' order: repetition penalty,
// temperature, top_k, top_p. `uniform` in [0, 1) decides.
int64_t ChooseToken(at::Tensor logits, const std::vector<int64_t>& seen, const GenerateOptions& options,
                    double uniform);

}  // namespace studio
