// Linear layers that read the same input, multiplied as one: q, k and v; gate and up; or a single one. Their weights
// lie in one matrix; adapters are two further skinny products for the whole group.
//
//   LinearGroup qkv({{"model.layers.0.self_attn.q_proj", 576}, …}, /*in=*/576, /*bias=*/false);
//   qkv.Allocate(options);                       // then each member's weight() is filled
//   at::Tensor y = qkv.Forward(x, *pass);        // [T, in] → [T, sum of outs], the members side by side
//
// y = x Wᵀ + bias + scale · drop(x) Aᵀ Bᵀ. Only what is trained gets a gradient: A and B, or weight and bias.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <string>
#include <vector>

#include "worker/trainer/model/options.h"
#include "worker/trainer/model/pass.h"

namespace studio {

struct LinearMember {
  std::string name;  // Hugging Face's module name
  int64_t out = 0;
  int64_t begin = 0;  // first row in the group's matrix
  // fp32 leaves; undefined without an adapter. A [r, in], B [out, r].
  at::Tensor lora_a, lora_b;
  // Views of the group's matrix and bias; leaves where they are trained.
  at::Tensor weight, bias;
};

class LinearGroup {
 public:
  LinearGroup() = default;
  LinearGroup(std::vector<LinearMember> members, int64_t in, bool has_bias);

  // Makes empty weights: leaves in `trained_dtype` where they are trained, else in `base_dtype`. `border`: so many rows
  // and columns are left beside the frozen matrix for its adapters; see Bordered().
  void Allocate(const ModelOptions& options, bool trained, int64_t border = 0);
  // Gives `member` an adapter (zeros; the caller fills A).
  void AddAdapter(LinearMember& member, const LoraConfig& config, at::Device device);
  void MoveTo(at::Device device);

  at::Tensor Forward(const at::Tensor& x, const PassPtr& pass);

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  std::vector<LinearMember>& members() { return members_; }
  const std::vector<LinearMember>& members() const { return members_; }
  double scale() const { return scale_; }
  double dropout() const { return dropout_; }
  bool has_adapter() const { return rank_ > 0; }
  bool trained() const { return trained_; }
  // What tells the dropout of its adapters apart (dropout.h).
  std::vector<uint64_t> AdapterSites() const;
  // Of all members' adapters together.
  int64_t rank() const { return rank_; }
  int64_t border() const { return border_; }

  // [[W, scale · B], [A, 0]], [out + border, in + border], W being the only copy there is: adapters lie in the frozen
  // matrix's border, so that x and its product with A, side by side, are multiplied by both at once. The border holds
  // the adapters as they were at the last Prepare. Without a border: W.
  const at::Tensor& Bordered() const { return bordered_; }
  // [out] in the base type; undefined without one.
  const at::Tensor& Bias() const { return bias_; }

  // Copies in the compute type, refreshed when what they copy has changed.
  struct Compute {
    at::Tensor weight;   // [out, in]
    at::Tensor bias;     // [out] or undefined
    at::Tensor lora_a;   // [rank, in], the members' A below each other
    at::Tensor lora_bt;  // [rank, out], the members' scale · Bᵀ in blocks
  };
  const Compute& Prepare(at::ScalarType dtype);
  // For who fills the borders of many groups at once: what Prepare copies, places that stay until the model is moved,
  // and whether it is due, which is then taken as done.
  struct AdapterCopy {
    at::Tensor from, to;  // [n, m] fp32, and a view of the compute copy
    double scale = 1;
  };
  std::vector<AdapterCopy> AdapterCopies(at::ScalarType dtype);
  bool TakeStaleAdapters(at::ScalarType dtype);
  // The members' A and B, or weights and biases, in the order in which gradients come back.
  std::vector<at::Tensor> Leaves() const;

 private:
  uint64_t Version() const;
  bool AdaptersStale(at::ScalarType dtype) const;
  std::vector<LinearMember> members_;
  int64_t in_ = 0;
  int64_t out_ = 0;
  bool has_bias_ = false;
  bool trained_ = false;
  int64_t rank_ = 0;  // of all members together
  int64_t border_ = 0;
  double scale_ = 1;
  double dropout_ = 0;
  at::Tensor bordered_, weight_, bias_;  // weight_ is bordered_ or a view of it
  Compute compute_;
  uint64_t compute_version_ = 0;
  bool compute_ready_ = false;
};

}  // namespace studio
