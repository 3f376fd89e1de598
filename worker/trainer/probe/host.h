// What the operating system says about this machine and this process. Without LibTorch.
#pragma once

#include <cstdint>
#include <set>
#include <string>

namespace studio {

// Names from uname(2): "aarch64", "Linux 6.1.0", the host's name.
struct HostNames {
  std::string machine;
  std::string os;
  std::string hostname;
};
HostNames ReadHostNames();

// Cores that this process may run on.
int HostCores();

struct HostMemory {
  int64_t total_bytes = 0;
  // The least of the machine's memory and the control group's limit.
  int64_t allocatable_bytes = 0;
  int64_t used_bytes = 0;
};
HostMemory ReadHostMemory();

// Largest resident size of this process so far.
int64_t PeakResidentBytes();

// As the kernel names them ("avx512_bf16"); empty where it does not say.
std::set<std::string> CpuFlags();

// The CPU multiplies bfloat16 itself (AVX512-BF16, AMX, ARMv8.6): elsewhere it is slower than float32.
bool CpuHasNativeBf16();

}  // namespace studio
