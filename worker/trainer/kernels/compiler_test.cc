// Every kernel compiles for every generation of cards that LibTorch's wheels run on: no card is needed for that.
#include "worker/trainer/kernels/compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/trainer/kernels/cuda_source.h"

namespace studio::kernels {
namespace {

using testing::HasSubstr;

struct CompilerTest : testing::Test {
  void SetUp() override {
    auto loaded = LoadNvrtc();
    if (!loaded.ok()) GTEST_SKIP() << loaded.status().message();
    nvrtc = *std::move(loaded);
  }
  std::unique_ptr<Compiler> nvrtc;
};

// The names that the host asks for, each with every width of access that it may choose.
std::vector<std::string> KernelNames() {
  std::vector<std::string> names = {
      "rms_d_weight",       "squares_partial_f32", "squares_partial_bf16",    "squares_total",
      "cross_entropy_bf16", "cross_entropy_f32",   "cross_entropy_kept_bf16", "cross_entropy_kept_f32",
      "silu_adapters_bf16", "gelu_adapters_bf16",  "glu_adapter_sums",        "silu_low_rank_bf16",
      "gelu_low_rank_bf16", "scaled_copies_bf16",  "scaled_copies_f32",       "adamw_f32"};
  const auto add = [&](const std::vector<std::string>& kernels, const std::vector<std::string>& suffixes) {
    for (const std::string& kernel : kernels) {
      for (const std::string& suffix : suffixes) names.push_back(kernel + suffix);
    }
  };
  add({"rms_forward", "rms_backward", "rms_backward_dw"},
      {"_bf16_v8_p1", "_bf16_v8_p2", "_bf16_v8_p4", "_bf16_v1_p8", "_f32_v4_p1", "_f32_v4_p4", "_f32_v1_p8"});
  add({"rope", "rope_gather"}, {"_bf16_v8", "_bf16_v4", "_bf16_v1", "_f32_v4", "_f32_v1"});
  add({"silu_forward", "silu_backward", "gelu_forward", "gelu_backward", "embedding_gradient"},
      {"_bf16_v8", "_bf16_v1", "_f32_v4", "_f32_v1"});
  add({"adamw_by_chance", "embedding_gradient_into_bf16"}, {"_bf16_v8", "_bf16_v1"});
  return names;
}

TEST_F(CompilerTest, CompilesEveryKernelForEveryGeneration) {
  for (const char* architecture : {"sm_80", "sm_90", "sm_100"}) {
    SCOPED_TRACE(architecture);
    // That of LibTorch 2.7.1 is older than Blackwell.
    if (std::string(architecture) == "sm_100" && nvrtc->version().find("12.6") != std::string::npos) continue;
    const auto cubin = nvrtc->Compile(CudaSource(), architecture);
    ASSERT_TRUE(cubin.ok()) << cubin.status();
    EXPECT_EQ(cubin->substr(1, 3), "ELF");
    // A symbol ends with a zero byte in the ELF string table.
    for (const std::string& name : KernelNames()) EXPECT_THAT(*cubin, HasSubstr(name + '\0')) << name;
  }
}

TEST_F(CompilerTest, SaysWhereATextIsWrong) {
  const auto cubin = nvrtc->Compile("extern \"C\" __global__ void k(int* p) { *p = nonsense; }", "sm_90");
  EXPECT_EQ(cubin.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(cubin.status().message(), HasSubstr("nonsense"));
}

TEST_F(CompilerTest, NamesAnArchitectureThatItDoesNotKnow) {
  const auto cubin = nvrtc->Compile(CudaSource(), "sm_20");
  EXPECT_EQ(cubin.status().code(), absl::StatusCode::kFailedPrecondition) << cubin.status();
  EXPECT_THAT(cubin.status().message(), HasSubstr("sm_20"));
}

}  // namespace
}  // namespace studio::kernels
