// That training on a device gives the numbers that it gives elsewhere. Each returns its figures, or says what is wrong.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

#include "absl/status/statusor.h"

namespace studio {

// Eight AdamW steps of a tiny Llama drawn from a seed: the losses are those stored in numerics.cc, within 1e-4 in
// float32 and 2 % in bfloat16 (relative), and fall.
absl::StatusOr<std::string> CheckTraining(at::Device device, at::ScalarType type, const std::string& folder);

// Another token at the end of a row changes no earlier logit, in float32 and bfloat16.
absl::StatusOr<std::string> CheckCausality(at::Device device, const std::string& folder);

}  // namespace studio
