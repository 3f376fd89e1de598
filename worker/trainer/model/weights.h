// From a safetensors file, or from a seed, into tensors that exist already.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/safetensors/reader.h"

namespace studio {

// Copies and converts. InvalidArgument names file and tensor where shapes differ or the type is no float.
absl::Status CopyInto(const safetensors::Tensor& from, at::Tensor& to);

// Normal numbers of this deviation, by counter from (seed, name): the same for any type, device and number of threads.
void FillNormal(at::Tensor& to, double deviation, uint64_t seed, std::string_view name);
// PEFT's start for A: uniform within ±1/sqrt(columns) (Kaiming, a = sqrt 5).
void FillKaiming(at::Tensor& to, uint64_t seed, std::string_view name);

// at::kFloat of "float32", …; InvalidArgument for others.
absl::StatusOr<at::ScalarType> ScalarTypeNamed(std::string_view name);
safetensors::Dtype DtypeOf(at::ScalarType type);

}  // namespace studio
