#include "common/platform/driver_advice.h"

#include <fstream>
#include <sstream>

#include "common/status/testing.h"

namespace studio {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(DriverAdvice, NamesTheLibtorchThatTheDriverRuns) {
  struct Row {
    const char* name;
    v1::Arch arch;
    const char *driver, *libtorch, *advice;
  };
  const Row rows[] = {
      {"a driver of 570", v1::X86_64, "12.8", "13.0",
       "driver of 580 or newer, or build the trainer with make dist LIBTORCH=2.7.1"},
      {"a driver of 525", v1::X86_64, "12.0", "13.2", "LIBTORCH=2.7.1"},
      {"JetPack 6", v1::ARM64, "12.6", "13.0", "LIBTORCH=2.7.1+cu128"},
      {"too old for any", v1::X86_64, "11.8", "13.0", "install a driver for CUDA 13 (580 or newer)"},
      {"too old for any, with the older LibTorch", v1::X86_64, "11.8", "12.6", "install a driver for CUDA 13"},
      {"new enough: the CPU's trainer runs", v1::X86_64, "13.0", "13.2", "studio-trainer-cuda"},
      {"new enough with the older LibTorch", v1::X86_64, "12.8", "12.6", "studio-trainer-cuda"},
      {"newer than the LibTorch", v1::X86_64, "13.0", "12.6", "studio-trainer-cuda"},
      {"PyPI's older wheel on ARM64", v1::ARM64, "12.8", "",
       "for CPUs alone: build the trainer with make dist LIBTORCH=2.7.1+cu128"},
      {"the same with a new driver", v1::ARM64, "13.0", "", "without LIBTORCH"},
      {"a driver that does not say", v1::X86_64, "", "13.0", "install a driver for CUDA 13"},
  };
  for (const Row& row : rows) {
    EXPECT_THAT(DriverAdvice(row.arch, row.driver, row.libtorch), HasSubstr(row.advice)) << row.name;
  }
  EXPECT_THAT(DriverAdvice(v1::X86_64, "13.0", "13.2"), Not(HasSubstr("LIBTORCH"))) << "nothing to rebuild";
}

TEST(DriverAdvice, WhatItNamesHasAnEntryInThePinFile) {
  std::ifstream file("third_party/pins.sh");
  std::stringstream pins;
  pins << file.rdbuf();
  EXPECT_THAT(pins.str(), HasSubstr("linux-x86_64/" + LibtorchForCuda12(v1::X86_64) + ")"));
  EXPECT_THAT(pins.str(), HasSubstr("linux-aarch64/" + LibtorchForCuda12(v1::ARM64) + ")"));
}

}  // namespace
}  // namespace studio
