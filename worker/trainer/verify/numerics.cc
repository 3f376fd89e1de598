#include "worker/trainer/verify/numerics.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status/macros.h"
#include "worker/trainer/model/causal_lm.h"
#include "worker/trainer/model/counter_random.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/optim/adamw.h"

namespace studio {
namespace {

constexpr int kVocabulary = 96;
constexpr char kConfig[] = R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128, "vocab_size": 96,
  "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "initializer_range": 0.1, "eos_token_id": 2})";

// Mean loss before each step, float32, x86-64 CPU.
constexpr double kLosses[] = {4.875252943, 3.610731072, 2.808634408, 2.093868271, 1.519170812,
                              1.079190610, 0.766792369, 0.574306496, 0.433494799};

absl::StatusOr<std::unique_ptr<CausalLm>> TinyModel(at::Device device, at::ScalarType type, const std::string& folder) {
  if (!(std::ofstream(folder + "/config.json") << kConfig << std::flush)) {
    return absl::UnavailableError(absl::StrCat(folder, "/config.json cannot be written"));
  }
  ModelOptions options;
  options.device = device;
  options.compute_dtype = type;
  options.base_dtype = type;
  options.pretrained = false;
  return CausalLm::Load(folder, options);
}

constexpr int64_t kLength = 64;
// Every token of the two segments but the last of each has one.
constexpr int64_t kLabels = 2 * (kLength - 1);

// Two segments of a pattern that can be learnt.
Batch MakeBatch(at::Device device, int64_t last_token) {
  std::vector<int64_t> tokens, positions, labels;
  for (int64_t i = 0; i < 2 * kLength; ++i) {
    tokens.push_back(static_cast<int64_t>(RandomBits(7, i % 16) % kVocabulary));
    positions.push_back(i % kLength);
  }
  tokens.back() = last_token;
  for (int64_t i = 0; i < 2 * kLength; ++i) labels.push_back(i % kLength + 1 < kLength ? tokens[i + 1] : -100);
  Batch batch;
  batch.tokens = at::tensor(tokens, at::kLong).to(device);
  batch.positions = at::tensor(positions, at::kLong).to(device);
  batch.labels = at::tensor(labels, at::kLong).to(device);
  batch.cu_seqlens = {0, kLength, 2 * kLength};
  return batch;
}

std::vector<double> Train(CausalLm& model, at::Device device) {
  std::vector<AdamW::Parameter> parameters;
  for (const NamedParameter& p : model.TrainableParameters()) parameters.push_back({p.name, p.tensor, p.decay});
  AdamW optimizer(std::move(parameters), {});
  const Batch batch = MakeBatch(device, 5);
  std::vector<double> losses;
  for (size_t step = 0; step < std::size(kLosses); ++step) {
    optimizer.ZeroGrads();
    const LossValue loss = model.AccumulateGradients(batch, 1.0 / kLabels);
    losses.push_back(loss.loss_sum / static_cast<double>(loss.valid_tokens));
    optimizer.Step(0.003);
  }
  return losses;
}

}  // namespace

absl::StatusOr<std::string> CheckTraining(at::Device device, at::ScalarType type, const std::string& folder) {
  ASSIGN_OR_RETURN(const std::unique_ptr<CausalLm> model, TinyModel(device, type, folder));
  ASSIGN_OR_RETURN(const std::vector<double> losses, CatchTorch([&] { return Train(*model, device); }));
  double worst = 0;
  for (size_t i = 0; i < losses.size(); ++i) {
    const double off = std::abs(losses[i] / kLosses[i] - 1);
    worst = std::isnan(off) ? off : std::max(worst, off);
    if (std::isnan(off)) break;
  }
  const double limit = type == at::kFloat ? 1e-4 : 2e-2;
  const std::string figures =
      absl::StrFormat("loss %.6f at first, %.6f after %d steps; %.1e from the stored values (at most %.0e)",
                      losses.front(), losses.back(), losses.size() - 1, worst, limit);
  // Not <, so that a NaN fails.
  if (!(worst <= limit) || !(losses.back() < losses.front())) return absl::InternalError(figures);
  return figures;
}

absl::StatusOr<std::string> CheckCausality(at::Device device, const std::string& folder) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    ASSIGN_OR_RETURN(const std::unique_ptr<CausalLm> model, TinyModel(device, type, folder));
    ASSIGN_OR_RETURN(const bool same, CatchTorch([&] {
                       const at::Tensor one = model->Logits(MakeBatch(device, 5));
                       const at::Tensor other = model->Logits(MakeBatch(device, 6));
                       const int64_t earlier = one.size(0) - 1;
                       return at::equal(one.narrow(0, 0, earlier), other.narrow(0, 0, earlier)) &&
                              !at::equal(one.narrow(0, earlier, 1), other.narrow(0, earlier, 1));
                     }));
    if (!same) {
      return absl::InternalError(absl::StrCat("attention in ", type == at::kFloat ? "float32" : "bfloat16",
                                              " lets a token see later ones: use another LibTorch (on macOS 2.13 or "
                                              "newer), or training.attention_implementation: EAGER"));
    }
  }
  return "no token sees a later one";
}

}  // namespace studio
