#include "common/platform/matrix.h"

#include <algorithm>
#include <iterator>

#include "common/platform/features.h"

namespace studio {
namespace {

constexpr Cell kWorks{};

constexpr Cell WhereFound(const char* feature, const char* instead) { return {Verdict::kWhereFound, feature, instead}; }
// Works, but `auto` takes it only where the feature is found.
constexpr Cell SlowWithout(const char* feature, const char* instead) { return {Verdict::kWorks, feature, instead}; }
constexpr Cell Never(const char* instead) { return {Verdict::kNever, "", instead}; }

constexpr Cell kFlash = WhereFound(features::kFlashAttention2, "SDPA");
constexpr Cell kNoFlash = Never("SDPA");
constexpr Cell kBf16 = SlowWithout(features::kBf16, "FLOAT32");
constexpr Cell k8bit = WhereFound(features::kBitsandbytes, "ADAMW");
constexpr Cell kNoFp16 = Never("BFLOAT16 or FLOAT32");

}  // namespace

const char* NameOf(const Platform& platform) {
  if (platform.backend == v1::MPS) return "Apple Silicon";
  const bool arm = platform.arch == v1::ARM64;
  if (platform.backend == v1::CUDA) return arm ? "NVIDIA ARM64" : "NVIDIA x86-64";
  return arm ? "CPU ARM64" : "CPU x86-64";
}

const std::vector<Capability>& CapabilityMatrix() {
  // Columns: CUDA ARM64, CUDA x86-64, MPS, CPU ARM64, CPU x86-64.
  static const auto& matrix = *new std::vector<Capability>{
      {Axis::kAttention, "EAGER", {kWorks, kWorks, kWorks, kWorks, kWorks}},
      {Axis::kAttention, "SDPA", {kWorks, kWorks, kWorks, kWorks, kWorks}},
      {Axis::kAttention, "FLASH_ATTENTION_2", {kFlash, kFlash, kNoFlash, kNoFlash, kNoFlash}},
      {Axis::kPrecision, "FLOAT32", {kWorks, kWorks, kWorks, kWorks, kWorks}},
      {Axis::kPrecision, "BFLOAT16", {kBf16, kBf16, kBf16, kBf16, kBf16}},
      {Axis::kPrecision, "FLOAT16", {kWorks, kWorks, kWorks, kNoFp16, kNoFp16}},
      {Axis::kOptimizer, "ADAMW", {kWorks, kWorks, kWorks, kWorks, kWorks}},
      {Axis::kOptimizer, "ADAMW8BIT", {k8bit, k8bit, Never("ADAMW"), k8bit, k8bit}},
      {Axis::kDevices, "1", {kWorks, kWorks, kWorks, kWorks, kWorks}},
      {Axis::kDevices, "2 or more", {kWorks, kWorks, Never("1"), kWorks, kWorks}},
  };
  return matrix;
}

const Cell* CellAt(Axis axis, std::string_view choice, const Platform& platform) {
  const auto* const column = std::find(std::begin(kPlatforms), std::end(kPlatforms), platform);
  if (column == std::end(kPlatforms)) return nullptr;
  for (const Capability& row : CapabilityMatrix()) {
    if (row.axis == axis && row.choice == choice) return &row.cells[column - std::begin(kPlatforms)];
  }
  return nullptr;
}

std::vector<const char*> AutoOrder(Axis axis) {
  switch (axis) {
    case Axis::kAttention:
      return {"FLASH_ATTENTION_2", "SDPA"};
    case Axis::kPrecision:
      return {"BFLOAT16", "FLOAT32"};
    case Axis::kOptimizer:
      return {"ADAMW8BIT", "ADAMW"};
    case Axis::kDevices:
      break;
  }
  return {};
}

}  // namespace studio
