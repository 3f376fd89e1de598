#include "common/platform/asks.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace studio {
namespace {

constexpr char kAttention[] = "training.attention_implementation";
constexpr char kOptimizer[] = "training.optimizer";
constexpr char kPrecision[] = "environment.mixed_precision_dtype";

bool Has(const v1::Inventory& inventory, const char* feature) {
  return std::find(inventory.features().begin(), inventory.features().end(), feature) != inventory.features().end();
}

Platform PlatformOf(v1::Backend backend, const v1::Inventory& inventory) {
  return {backend == v1::BACKEND_AUTO ? inventory.backend() : backend, inventory.arch()};
}

// The platforms that the job's resources leave open.
std::vector<Platform> Open(const v1::Resources& resources) {
  std::vector<Platform> open;
  for (const Platform& platform : kPlatforms) {
    if (resources.backend() != v1::BACKEND_AUTO && resources.backend() != platform.backend) continue;
    if (resources.arch() != v1::ARCH_ANY && resources.arch() != platform.arch) continue;
    open.push_back(platform);
  }
  return open;
}

// "MPS", "CPU on ARM64", "any platform": where the job's resources confine it to.
std::string Confines(const v1::Resources& resources) {
  const bool backend = resources.backend() != v1::BACKEND_AUTO, arch = resources.arch() != v1::ARCH_ANY;
  if (backend && arch)
    return absl::StrCat(v1::Backend_Name(resources.backend()), " on ", v1::Arch_Name(resources.arch()));
  if (backend) return v1::Backend_Name(resources.backend());
  return arch ? v1::Arch_Name(resources.arch()) : "any platform";
}

// Where no platform that is open can do it: the alternative of the first. Null: one can.
const char* NeverOn(const std::vector<Platform>& open, const Ask& ask) {
  const char* instead = nullptr;
  for (const Platform& platform : open) {
    const Cell* const cell = CellAt(ask.axis, ask.choice, platform);
    if (cell == nullptr || cell->verdict != Verdict::kNever) return nullptr;
    if (instead == nullptr) instead = cell->instead;
  }
  return instead;
}

}  // namespace

Asks AsksOf(const v1::Job& job) {
  Asks asks;
  asks.backend = job.resources().backend();
  const auto add = [&](const char* field, Axis axis, std::string choice) {
    asks.explicitly.push_back({field, axis, std::move(choice)});
  };
  const v1::Training& training = job.training();
  if (training.attention_implementation() != v1::Training::ATTENTION_AUTO) {
    add(kAttention, Axis::kAttention, v1::Training::Attention_Name(training.attention_implementation()));
  }
  if (job.environment().mixed_precision_dtype() != v1::Architecture::DTYPE_AUTO) {
    add(kPrecision, Axis::kPrecision, v1::Architecture::Dtype_Name(job.environment().mixed_precision_dtype()));
  }
  if (job.architecture().backbone_dtype() != v1::Architecture::DTYPE_AUTO) {
    add("architecture.backbone_dtype", Axis::kPrecision,
        v1::Architecture::Dtype_Name(job.architecture().backbone_dtype()));
  }
  if (training.optimizer() != v1::Training::OPTIMIZER_AUTO) {
    add(kOptimizer, Axis::kOptimizer, v1::Training::Optimizer_Name(training.optimizer()));
  }
  if (job.resources().devices() > 1) add("resources.devices", Axis::kDevices, "2 or more");
  return asks;
}

std::vector<PlatformProblem> NeverWorks(const v1::Job& job) {
  std::vector<PlatformProblem> problems;
  const std::vector<Platform> open = Open(job.resources());
  if (open.empty() && v1::Arch_IsValid(job.resources().arch()) && v1::Backend_IsValid(job.resources().backend())) {
    problems.push_back(
        {"resources.arch", absl::StrCat(v1::Arch_Name(job.resources().arch()), " with resources.backend ",
                                        v1::Backend_Name(job.resources().backend()),
                                        ": there is no such platform; leave one of them out")});
  }
  for (const Ask& ask : AsksOf(job).explicitly) {
    const char* const instead = NeverOn(open, ask);
    if (instead == nullptr) continue;
    const std::string value = ask.axis == Axis::kDevices ? absl::StrCat(job.resources().devices()) : ask.choice;
    problems.push_back({ask.field, absl::StrCat(value, " never works on ", Confines(job.resources()), "; use ", instead,
                                                ", or ask for another resources.backend")});
  }
  if (job.training().attention_implementation() == v1::Training::FLASH_ATTENTION_2 &&
      job.environment().mixed_precision_dtype() == v1::Architecture::FLOAT32) {
    problems.push_back({kAttention, absl::StrCat("FLASH_ATTENTION_2 has no FLOAT32: use SDPA, or set ", kPrecision,
                                                 " to BFLOAT16 or FLOAT16")});
  }
  return problems;
}

std::string WhyNot(const Asks& asks, const v1::Inventory& inventory) {
  const Platform platform = PlatformOf(asks.backend, inventory);
  for (const Ask& ask : asks.explicitly) {
    const Cell* const cell = CellAt(ask.axis, ask.choice, platform);
    if (cell == nullptr) continue;
    if (cell->verdict == Verdict::kNever) {
      return absl::StrCat(ask.choice, " does not work on ", NameOf(platform), " (", ask.field, "; ", cell->instead,
                          " does)");
    }
    if (cell->verdict == Verdict::kWhereFound && !Has(inventory, cell->feature)) {
      return absl::StrCat(ask.choice, " needs ", cell->feature, ", which it does not have (", ask.field, "; ",
                          cell->instead, " works there)");
    }
  }
  return "";
}

std::vector<std::string> AutoFallbacks(const v1::Job& job, const v1::Inventory& inventory) {
  const Platform platform = PlatformOf(job.resources().backend(), inventory);
  const auto asks = AsksOf(job).explicitly;
  std::vector<std::string> notes;
  for (const auto& setting : {std::pair{kAttention, Axis::kAttention}, std::pair{kPrecision, Axis::kPrecision},
                              std::pair{kOptimizer, Axis::kOptimizer}}) {
    const char* const field = setting.first;
    const Axis axis = setting.second;
    if (std::any_of(asks.begin(), asks.end(), [&](const Ask& ask) { return ask.field == field; })) continue;
    const char* const best = AutoOrder(axis).front();
    const Cell* const cell = CellAt(axis, best, platform);
    if (cell == nullptr) continue;
    const bool needs = *cell->feature != '\0';
    if (cell->verdict != Verdict::kNever && (!needs || Has(inventory, cell->feature))) continue;
    notes.push_back(absl::StrCat(field, ": auto takes ", cell->instead, ", as ", best,
                                 cell->verdict == Verdict::kWorks ? " is slow on this " : " is not for this ",
                                 NameOf(platform), needs ? " machine without " : " machine", cell->feature));
  }
  return notes;
}

}  // namespace studio
