// CausalLm's parts, for the files that implement it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "worker/trainer/model/causal_lm.h"
#include "worker/trainer/model/layer.h"
#include "worker/trainer/model/pass.h"

namespace studio {

struct CausalLm::Impl {
  std::string dir;
  Architecture arch;
  ModelOptions options;
  Attention attention = Attention::kSdpa;
  at::Tensor embedding;   // [V, H]
  at::Tensor final_norm;  // [H]
  at::Tensor head;        // [V, H]; the embedding itself where tied
  std::vector<DecoderLayer> layers;
  std::vector<NamedParameter> parameters;
  // Cosine and sine of every position seen so far, [positions, head_dim / 2].
  at::Tensor cosine_table, sine_table;

  // Every weight under its name in a model folder, in their order there; the head where it is not tied.
  struct Slot {
    std::string name;
    at::Tensor* tensor;
    enum Kind { kMatrix, kNorm, kBias } kind;
    // The adapter that belongs to it.
    const LinearGroup* group = nullptr;
    const LinearMember* member = nullptr;
  };
  std::vector<Slot> Slots();

  // load.cc
  void Allocate();
  absl::Status ReadWeights();
  void DrawWeights();
  absl::Status MakeAdapters();
  absl::Status ReadAdapter();
  void ListParameters();

  // forward.cc
  void GrowTables(int64_t positions);
  PassPtr MakePass(const Batch& batch, bool training);
  // The same for some of the rows, behind the last attention.
  PassPtr Select(const PassPtr& pass, const at::Tensor& rows);
  at::Tensor Embed(const at::Tensor& tokens, const Pass& pass);
  // Final norm's output at `rows` (all where undefined).
  at::Tensor Run(const Batch& batch, const PassPtr& pass, const at::Tensor& rows);
  // fp32, of the final norm's output.
  at::Tensor HeadLogits(const at::Tensor& hidden) const;
  LossTensor Loss(const Batch& batch, bool training);
};

}  // namespace studio
