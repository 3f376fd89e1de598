// What can work where: the one table of choices × platforms. Validation, scheduler, workers and docs/platforms.md read
// it.
//
//   const Cell& cell = CellAt(Axis::kAttention, "FLASH_ATTENTION_2", {v1::MPS, v1::ARM64});   // kNever, instead SDPA
//
// A platform is a backend on an architecture. What a machine of it has at run time (the age of a card, a library) is a
// feature of features.h. Pure data; any thread.
#pragma once

#include <string_view>
#include <vector>

#include "proto/studio/v1/job.pb.h"

namespace studio {

// What a job chooses between.
enum class Axis { kAttention, kPrecision, kOptimizer, kDevices };

enum class Verdict {
  kWorks,
  // Where the machine has the cell's feature.
  kWhereFound,
  kNever,
};

struct Cell {
  Verdict verdict = Verdict::kWorks;
  // Of features.h. With kWorks: `auto` takes it only where this is found, as it is slow elsewhere. "": none.
  const char* feature = "";
  // What `auto` takes and what can be asked for, where it does not work.
  const char* instead = "";
};

struct Platform {
  v1::Backend backend;
  v1::Arch arch;
  // Written out: the generator of docs/job_reference.md reads this as C++17.
  bool operator==(const Platform& other) const { return backend == other.backend && arch == other.arch; }
};

inline constexpr Platform kPlatforms[] = {
    {v1::CUDA, v1::ARM64}, {v1::CUDA, v1::X86_64}, {v1::MPS, v1::ARM64}, {v1::CPU, v1::ARM64}, {v1::CPU, v1::X86_64},
};
inline constexpr int kPlatformCount = 5;
// "NVIDIA ARM64"; for people.
const char* NameOf(const Platform& platform);

struct Capability {
  Axis axis;
  // Value of the job's field, as people write it.
  const char* choice;
  // As kPlatforms.
  Cell cells[kPlatformCount];
};

const std::vector<Capability>& CapabilityMatrix();

// Null where there is no such platform (Metal on x86-64) or choice.
const Cell* CellAt(Axis axis, std::string_view choice, const Platform& platform);

// From the fastest to the one that works everywhere: what `auto` tries in turn. Empty where the axis has no `auto`.
std::vector<const char*> AutoOrder(Axis axis);

}  // namespace studio
