// From what a probe found to what a machine is: architecture, backend, devices and features, as the rest of the system
// knows them. Pure: worker/trainer/probe asks the machine, this decides what the answers mean. Any thread.
//
//   MachineFacts facts;            // filled by the probe
//   v1::Inventory inventory = DescribeMachine(facts);
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "proto/studio/v1/state.pb.h"

namespace studio {

struct DetectedArch {
  v1::Arch arch = v1::X86_64;
  // False: nobody here has heard of the machine, and it is treated as x86-64.
  bool known = true;
};
// `machine` as uname says it, in any letter case: "aarch64", "arm64", "x86_64", "amd64".
DetectedArch DetectArch(std::string_view machine);

// CUDA before MPS before CPU. A machine without either is a CPU machine, not an error.
v1::Backend DetectBackend(int cuda_devices, bool metal);

// Of one NVIDIA device; empty and 0 where the driver did not say.
struct CudaFacts {
  // "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
  std::string name = {};
  // "9.0"
  std::string compute_capability = {};
  std::string driver = {};
  // One memory with the CPU (Jetson), or the CPU's page tables serve it (GH200, GB200).
  bool integrated = false;
  bool coherent = false;
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;
};

struct MetalFacts {
  // What Metal recommends to hold at most; 0: it did not say. About two thirds to three quarters of the Mac's memory.
  int64_t working_set_bytes = 0;
};

struct MachineFacts {
  // From uname.
  std::string machine = {};
  std::string os = {};
  std::string hostname = {};
  int cores = 0;
  int64_t host_total_bytes = 0;
  // The least of the machine's memory and the control group's limit.
  int64_t host_allocatable_bytes = 0;
  int64_t host_used_bytes = 0;
  // The CPU multiplies bfloat16 itself.
  bool cpu_bf16 = false;
  std::vector<CudaFacts> cuda = {};
  std::optional<MetalFacts> metal = {};
  // Names of features.h of the optional libraries that dlopen found.
  std::set<std::string> libraries = {};
  // An NVIDIA driver is there though LibTorch sees no device by it: the newest CUDA that it runs ("12.8").
  std::string unused_driver = {};
  // The CUDA that LibTorch was built for ("13.0"), in the CPU's trainer too; empty: none.
  std::string libtorch_cuda = {};
};

// Everything but the versions and needs_data, which the trainer knows itself.
v1::Inventory DescribeMachine(const MachineFacts& facts);

// "1g.10gb" of "NVIDIA H100 80GB HBM3 MIG 1g.10gb"; empty where the name has none.
std::string MigSliceOf(std::string_view device_name);

// Compute capability 8.0 (Ampere) or later, where bfloat16 arithmetic and FlashAttention begin. False for "".
bool IsAmpereOrLater(std::string_view compute_capability);

}  // namespace studio
