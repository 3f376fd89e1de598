// One tensor's step of AdamW on 8-bit states (Dettmers et al., "8-bit Optimizers via Block-wise Quantization",
// arXiv:2110.02861), by bitsandbytes' shared library: its kernel on CUDA; on a CPU its quantisation around LibTorch's
// operations, as bitsandbytes itself does there.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<BlockwiseAdam> adam, BlockwiseAdam::Load(device));
//   BlockwiseState state = adam->MakeState(weight);
//   adam->Update(weight, grad, state, {…});
//
// Not thread-safe. Update throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace studio {

// Numbers that share a scale: what bitsandbytes' kernels are built for.
inline constexpr int64_t kQuantisationBlock = 256;

struct BlockwiseState {
  // Bytes of the parameter's shape, and the fp32 scale of each block, [ceil(n / 256)].
  at::Tensor exp_avg, exp_avg_absmax;
  at::Tensor exp_avg_sq, exp_avg_sq_absmax;
};

struct BlockwiseStep {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double learning_rate = 0;
  // From 1.
  int64_t step = 1;
};

class BlockwiseAdam {
 public:
  // NotFound where bitsandbytes is not here for the device; see probe/bitsandbytes.h. Unimplemented for Metal.
  static absl::StatusOr<std::unique_ptr<BlockwiseAdam>> Load(at::Device device);
  virtual ~BlockwiseAdam() = default;

  // Zero moments.
  static BlockwiseState MakeState(const at::Tensor& weight);

  // fp32, contiguous, on the device that it was loaded for.
  virtual void Update(const at::Tensor& weight, const at::Tensor& grad, BlockwiseState& state,
                      const BlockwiseStep& step) = 0;

  // Of the library.
  const std::string& path() const { return path_; }

 protected:
  explicit BlockwiseAdam(std::string path) : path_(std::move(path)) {}

 private:
  const std::string path_;
};

}  // namespace studio
