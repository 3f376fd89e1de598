#include "worker/trainer/model/weights.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status/check.h"
#include "worker/trainer/model/counter_random.h"

namespace studio {
namespace {

std::optional<at::ScalarType> FloatType(safetensors::Dtype dtype) {
  switch (dtype) {
    case safetensors::Dtype::kF32:
      return at::kFloat;
    case safetensors::Dtype::kBF16:
      return at::kBFloat16;
    case safetensors::Dtype::kF16:
      return at::kHalf;
    case safetensors::Dtype::kF64:
      return at::kDouble;
    default:
      return std::nullopt;
  }
}

// value(index) for each element, in row-major order.
template <typename F>
void Fill(at::Tensor& to, F&& value) {
  at::NoGradGuard no_grad;
  const at::Tensor host = at::empty(to.sizes(), at::TensorOptions(at::kFloat));
  float* out = host.data_ptr<float>();
  at::parallel_for(0, host.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = static_cast<float>(value(static_cast<uint64_t>(i)));
  });
  to.copy_(host);
}

}  // namespace

absl::Status CopyInto(const safetensors::Tensor& from, at::Tensor& to) {
  at::NoGradGuard no_grad;
  const std::optional<at::ScalarType> type = FloatType(from.info.dtype);
  const auto bad = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(from.file, ": tensor '", from.info.name, "' ", what));
  };
  if (!type) {
    const std::string_view name = safetensors::Name(from.info.dtype);
    return bad(absl::StrCat("has dtype ", std::string(name), ", want F32, BF16, F16 or F64"));
  }
  if (to.sizes() != at::IntArrayRef(from.info.shape)) {
    return bad(absl::StrCat("has shape [", absl::StrJoin(from.info.shape, ", "), "], config.json asks for [",
                            absl::StrJoin(to.sizes(), ", "), "]"));
  }
  if (from.data.empty()) return absl::OkStatus();
  const size_t size = static_cast<size_t>(safetensors::BytesPerElement(from.info.dtype));
  at::Tensor source;
  if (reinterpret_cast<uintptr_t>(from.data.data()) % size == 0) {
    source = at::from_blob(const_cast<char*>(from.data.data()), from.info.shape, at::TensorOptions(*type));
  } else {  // a file may place tensors anywhere
    source = at::empty(from.info.shape, at::TensorOptions(*type));
    std::memcpy(source.data_ptr(), from.data.data(), from.data.size());
  }
  to.copy_(source);
  return absl::OkStatus();
}

void FillNormal(at::Tensor& to, double deviation, uint64_t seed, std::string_view name) {
  const uint64_t key = RandomKey(seed, name);
  Fill(to, [=](uint64_t i) { return deviation * Normal(key, i); });
}

void FillKaiming(at::Tensor& to, uint64_t seed, std::string_view name) {
  const uint64_t key = RandomKey(seed, name);
  const double bound = 1.0 / std::sqrt(static_cast<double>(to.size(1)));
  Fill(to, [=](uint64_t i) { return bound * (2 * Uniform(key, i) - 1); });
}

absl::StatusOr<at::ScalarType> ScalarTypeNamed(std::string_view name) {
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16") return at::kHalf;
  return absl::InvalidArgumentError(
      absl::StrCat("type '", std::string(name), "' is not supported; supported are float32, bfloat16, float16"));
}

safetensors::Dtype DtypeOf(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return safetensors::Dtype::kF32;
    case at::kBFloat16:
      return safetensors::Dtype::kBF16;
    case at::kHalf:
      return safetensors::Dtype::kF16;
    case at::kDouble:
      return safetensors::Dtype::kF64;
    case at::kLong:
      return safetensors::Dtype::kI64;
    case at::kInt:
      return safetensors::Dtype::kI32;
    case at::kByte:
      return safetensors::Dtype::kU8;
    default:
      STUDIO_CHECK(false) << "no safetensors type for " << c10::toString(type);
      return safetensors::Dtype::kU8;
  }
}

}  // namespace studio
