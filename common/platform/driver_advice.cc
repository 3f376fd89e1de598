#include "common/platform/driver_advice.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace studio {
namespace {

// 12 of "12.8"; 0 where there is no number.
int MajorOf(std::string_view version) {
  int major = 0;
  const std::string_view text = version.substr(0, version.find('.'));
  return absl::SimpleAtoi(absl::string_view(text.data(), text.size()), &major) ? major : 0;
}

}  // namespace

std::string LibtorchForCuda12(v1::Arch arch) { return arch == v1::ARM64 ? "2.7.1+cu128" : "2.7.1"; }

std::string DriverAdvice(v1::Arch arch, std::string_view driver_cuda, std::string_view libtorch_cuda) {
  const int driver = MajorOf(driver_cuda), libtorch = MajorOf(libtorch_cuda);
  if (libtorch > 0 && driver >= libtorch) return "install the CUDA trainer (studio-trainer-cuda)";
  if (driver < 12) return "install a driver for CUDA 13 (580 or newer)";
  const std::string build = absl::StrCat("build the trainer with make dist LIBTORCH=", LibtorchForCuda12(arch));
  if (libtorch == 0) {
    return absl::StrCat("its LibTorch is for CPUs alone: ",
                        driver >= 13 ? "build the trainer with make dist, without LIBTORCH" : build);
  }
  return absl::StrCat("that driver runs CUDA 12 at most and this LibTorch is for CUDA ", libtorch,
                      ": install a driver of 580 or newer, or ", build);
}

}  // namespace studio
