#include "worker/trainer/optim/blockwise_adam.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/status/check.h"
#include "common/status/macros.h"
#include "worker/trainer/optim/dynamic_map.h"
#include "worker/trainer/probe/bitsandbytes.h"

namespace studio {
namespace {

// Of csrc/pythonInterface.cpp, 0.45 and later.
using CudaUpdate = void(float* weight, float* grad, unsigned char* state1, unsigned char* state2, float beta1,
                        float beta2, float beta3, float alpha, float epsilon, int step, float learning_rate,
                        float* map1, float* map2, float* absmax1, float* absmax2, float weight_decay, float grad_scale,
                        bool skip_zeros, int n);
using CpuQuantize = void(float* map, float* from, float* absmax, unsigned char* to, long long block, long long n);
using CpuDequantize = void(float* map, unsigned char* from, float* absmax, float* to, long long block, long long n);

template <typename F>
F* Function(const BitsandbytesLibrary& library, const char* name) {
  void* const symbol = dlsym(library.handle, name);
  STUDIO_CHECK(symbol != nullptr) << name << " was there when the library was opened";
  return reinterpret_cast<F*>(symbol);
}

void CheckTensors(const at::Tensor& weight, const at::Tensor& grad, const BlockwiseState& state) {
  STUDIO_CHECK(weight.scalar_type() == at::kFloat && grad.scalar_type() == at::kFloat);
  STUDIO_CHECK(weight.is_contiguous() && grad.is_contiguous() && grad.numel() == weight.numel());
  STUDIO_CHECK(state.exp_avg.numel() == weight.numel() && state.exp_avg.device() == weight.device());
}

class CudaAdam : public BlockwiseAdam {
 public:
  CudaAdam(const BitsandbytesLibrary& library, at::Device device)
      : BlockwiseAdam(library.path),
        update_(Function<CudaUpdate>(library, "cadam_8bit_blockwise_grad_fp32")),
        device_(device),
        signed_map_(DynamicMap(true).to(device)),
        unsigned_map_(DynamicMap(false).to(device)) {}

  void Update(const at::Tensor& weight, const at::Tensor& grad, BlockwiseState& state,
              const BlockwiseStep& step) override {
    CheckTensors(weight, grad, state);
    const c10::DeviceGuard guard(device_);
    // The library launches on the device's default stream: work queued elsewhere would not be waited for.
    const c10::impl::VirtualGuardImpl streams(device_.type());
    STUDIO_CHECK(streams.getStream(device_) == streams.getDefaultStream(device_));
    // It counts in int; parts end where blocks do.
    constexpr int64_t kPart = int64_t{1} << 30;
    for (int64_t begin = 0; begin < weight.numel(); begin += kPart) {
      const int64_t block = begin / kQuantisationBlock;
      update_(weight.mutable_data_ptr<float>() + begin, grad.mutable_data_ptr<float>() + begin,
              state.exp_avg.mutable_data_ptr<uint8_t>() + begin, state.exp_avg_sq.mutable_data_ptr<uint8_t>() + begin,
              static_cast<float>(step.beta1), static_cast<float>(step.beta2), /*beta3=*/0, /*alpha=*/0,
              static_cast<float>(step.epsilon), static_cast<int>(step.step), static_cast<float>(step.learning_rate),
              signed_map_.mutable_data_ptr<float>(), unsigned_map_.mutable_data_ptr<float>(),
              state.exp_avg_absmax.mutable_data_ptr<float>() + block,
              state.exp_avg_sq_absmax.mutable_data_ptr<float>() + block, static_cast<float>(step.weight_decay),
              /*grad_scale=*/1, /*skip_zeros=*/false, static_cast<int>(std::min(kPart, weight.numel() - begin)));
    }
  }

 private:
  CudaUpdate* const update_;
  const at::Device device_;
  const at::Tensor signed_map_, unsigned_map_;
};

class CpuAdam : public BlockwiseAdam {
 public:
  explicit CpuAdam(const BitsandbytesLibrary& library)
      : BlockwiseAdam(library.path),
        quantize_(Function<CpuQuantize>(library, "cquantize_blockwise_cpu_fp32")),
        dequantize_(Function<CpuDequantize>(library, "cdequantize_blockwise_cpu_fp32")),
        signed_map_(DynamicMap(true)),
        unsigned_map_(DynamicMap(false)) {}

  // The operations of bitsandbytes' backends/cpu in their order: the same bits.
  void Update(const at::Tensor& weight, const at::Tensor& grad, BlockwiseState& state,
              const BlockwiseStep& step) override {
    CheckTensors(weight, grad, state);
    at::Tensor exp_avg = Dequantize(signed_map_, state.exp_avg, state.exp_avg_absmax);
    at::Tensor exp_avg_sq = Dequantize(unsigned_map_, state.exp_avg_sq, state.exp_avg_sq_absmax);
    exp_avg.mul_(step.beta1).add_(grad, 1.0 - step.beta1);
    exp_avg_sq.mul_(step.beta2).addcmul_(grad, grad, 1.0 - step.beta2);
    const double count = static_cast<double>(step.step);
    const double correction1 = 1.0 - std::pow(step.beta1, count);
    const double correction2 = std::sqrt(1.0 - std::pow(step.beta2, count));
    const at::Tensor denominator = exp_avg_sq.sqrt().div_(correction2).add_(step.epsilon);
    if (step.weight_decay > 0) weight.mul_(1.0 - step.learning_rate * step.weight_decay);
    weight.addcdiv_(exp_avg, denominator, -step.learning_rate / correction1);
    Quantize(signed_map_, exp_avg, state.exp_avg, state.exp_avg_absmax);
    Quantize(unsigned_map_, exp_avg_sq, state.exp_avg_sq, state.exp_avg_sq_absmax);
  }

 private:
  at::Tensor Dequantize(const at::Tensor& map, const at::Tensor& bytes, const at::Tensor& absmax) const {
    const at::Tensor values = at::empty_like(bytes, bytes.options().dtype(at::kFloat));
    dequantize_(map.mutable_data_ptr<float>(), bytes.mutable_data_ptr<uint8_t>(), absmax.mutable_data_ptr<float>(),
                values.mutable_data_ptr<float>(), kQuantisationBlock, values.numel());
    return values;
  }
  void Quantize(const at::Tensor& map, const at::Tensor& values, at::Tensor& bytes, at::Tensor& absmax) const {
    quantize_(map.mutable_data_ptr<float>(), values.mutable_data_ptr<float>(), absmax.mutable_data_ptr<float>(),
              bytes.mutable_data_ptr<uint8_t>(), kQuantisationBlock, values.numel());
  }

  CpuQuantize* const quantize_;
  CpuDequantize* const dequantize_;
  const at::Tensor signed_map_, unsigned_map_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockwiseAdam>> BlockwiseAdam::Load(at::Device device) {
  if (!device.is_cuda() && !device.is_cpu()) {
    return absl::UnimplementedError("bitsandbytes has no 8-bit optimizer for this device");
  }
  ASSIGN_OR_RETURN(const BitsandbytesLibrary library, OpenBitsandbytes(device.is_cuda()));
  if (device.is_cuda()) return std::make_unique<CudaAdam>(library, device);
  return std::make_unique<CpuAdam>(library);
}

BlockwiseState BlockwiseAdam::MakeState(const at::Tensor& weight) {
  const int64_t blocks = (weight.numel() + kQuantisationBlock - 1) / kQuantisationBlock;
  const auto bytes = [&] { return at::zeros(weight.sizes(), weight.options().dtype(at::kByte).requires_grad(false)); };
  const auto scales = [&] { return at::zeros({blocks}, weight.options().requires_grad(false)); };
  return {bytes(), scales(), bytes(), scales()};
}

}  // namespace studio
