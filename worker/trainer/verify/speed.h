// How fast a device is: figures for a person to compare, which fail only where they cannot be had.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

#include "absl/status/statusor.h"

namespace studio {

// A square matrix product: "12.3 TFLOP/s (4096 × 4096 × 4096)", and its result is right.
absl::StatusOr<std::string> MeasureProduct(at::Device device, at::ScalarType type);

// A copy within the device's memory, read and write counted: "2.9 TB/s".
absl::StatusOr<std::string> MeasureCopy(at::Device device);

}  // namespace studio
