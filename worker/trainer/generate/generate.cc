#include "worker/trainer/generate/generate.h"

#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "worker/trainer/model/counter_random.h"

namespace studio {

int64_t ChooseToken(at::Tensor logits, const std::vector<int64_t>& seen, const GenerateOptions& options,
                    double uniform) {
  float* value = logits.data_ptr<float>();
  const int64_t vocab = logits.numel();
  if (options.repetition_penalty != 1) {
    const auto penalty = static_cast<float>(options.repetition_penalty);
    for (const int64_t token : std::set<int64_t>(seen.begin(), seen.end())) {
      value[token] = value[token] > 0 ? value[token] / penalty : value[token] * penalty;
    }
  }
  if (!options.do_sample) return std::max_element(value, value + vocab) - value;

  // Likeliest first; equal ones by number, so that the order is always the same.
  std::vector<int64_t> order(vocab);
  std::iota(order.begin(), order.end(), 0);
  const int64_t kept = options.top_k > 0 ? std::min(options.top_k, vocab) : vocab;
  std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                    [&](int64_t a, int64_t b) { return value[a] != value[b] ? value[a] > value[b] : a < b; });
  order.resize(kept);
  const double top = value[order[0]];
  std::vector<double> weight;
  double total = 0;
  for (const int64_t token : order) {
    weight.push_back(std::exp((value[token] - top) / options.temperature));
    total += weight.back();
  }
  // The smallest set of likeliest tokens whose share reaches top_p.
  double sum = 0;
  size_t count = 0;
  while (count < weight.size() && (count == 0 || sum < options.top_p * total)) sum += weight[count++];
  double left = uniform * sum;
  for (size_t i = 0; i < count; ++i) {
    left -= weight[i];
    if (left < 0) return order[i];
  }
  return order[count - 1];
}

std::vector<int64_t> Generate(CausalLm& model, const std::vector<int64_t>& prompt, const GenerateOptions& options) {
  std::vector<int64_t> answer;
  if (prompt.empty() || options.max_new_tokens < 1) return answer;
  const std::vector<int64_t>& stops =
      options.stop_tokens.empty() ? model.architecture().eos_token_ids : options.stop_tokens;
  const uint64_t key = RandomKey(RandomKey(options.seed, "generate"), options.stream);
  KvCache cache = model.MakeCache(static_cast<int64_t>(prompt.size()) + options.max_new_tokens);
  std::vector<int64_t> seen = prompt;
  at::Tensor logits = model.Extend(at::tensor(prompt, at::kLong), cache);
  while (true) {
    if (options.stopped && options.stopped()) break;
    const int64_t next = ChooseToken(logits.cpu().contiguous(), seen, options, Uniform(key, answer.size()));
    if (std::find(stops.begin(), stops.end(), next) != stops.end()) break;
    answer.push_back(next);
    seen.push_back(next);
    if (static_cast<int64_t>(answer.size()) >= options.max_new_tokens) break;
    logits = model.Extend(at::tensor({next}, at::kLong), cache);
  }
  return answer;
}

}  // namespace studio
