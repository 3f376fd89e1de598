#include "common/platform/markers.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace studio {
namespace {

struct Marker {
  std::string_view name;
  // ARCH_ANY: any.
  v1::Arch arch;
  // Any of them; none: any backend.
  std::vector<v1::Backend> backends;
  const char* needs;
};

const std::vector<Marker>& Markers() {
  static const auto& markers = *new std::vector<Marker>{
      {"arm64_cuda", v1::ARM64, {v1::CUDA}, "an NVIDIA card on ARM64"},
      {"arm64_mps", v1::ARM64, {v1::MPS}, "Apple Silicon"},
      {"x86_64", v1::X86_64, {}, "x86-64"},
      {"requires_gpu", v1::ARCH_ANY, {v1::CUDA, v1::MPS}, "a GPU"},
      {"requires_cuda", v1::ARCH_ANY, {v1::CUDA}, "an NVIDIA card"},
      {"requires_mps", v1::ARCH_ANY, {v1::MPS}, "Metal"},
  };
  return markers;
}

}  // namespace

std::string WhatLacks(std::string_view marker, const v1::Inventory& inventory) {
  const absl::string_view name(marker.data(), marker.size());
  const auto found =
      std::find_if(Markers().begin(), Markers().end(), [&](const Marker& known) { return known.name == marker; });
  if (found == Markers().end()) return absl::StrCat("no machine is known to be \"", name, "\"");
  const bool arch = found->arch == v1::ARCH_ANY || found->arch == inventory.arch();
  const bool backend = found->backends.empty() || std::find(found->backends.begin(), found->backends.end(),
                                                            inventory.backend()) != found->backends.end();
  if (arch && backend) return "";
  return absl::StrCat(name, ": needs ", found->needs, "; this machine is ", v1::Arch_Name(inventory.arch()), " with ",
                      v1::Backend_Name(inventory.backend()));
}

}  // namespace studio
