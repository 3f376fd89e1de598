#include "worker/trainer/loop/choose_optimizer.h"

#include <cstdlib>

#include "common/env/memory_env.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A checkpoint's state, as far as the choice reads it.
MemoryEnv EnvWith(const char* optimizer) {
  MemoryEnv env;
  EXPECT_OK(env.MakeFolders("/checkpoint"));
  EXPECT_OK(
      env.WriteFile("/checkpoint/state.pb.txt", std::string("job { training { optimizer: ") + optimizer + " } }"));
  return env;
}

class WithoutBitsandbytes : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(setenv("STUDIO_BITSANDBYTES", "/no/such/library.so", 1), 0); }
  void TearDown() override { unsetenv("STUDIO_BITSANDBYTES"); }
};

TEST_F(WithoutBitsandbytes, AutoFallsBackToFp32States) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(const OptimizerChoice choice,
                       ChooseOptimizer(v1::Training::OPTIMIZER_AUTO, at::kFloat, at::kCPU, "", env));
  EXPECT_EQ(choice.kind(), v1::Training::ADAMW);
}

TEST_F(WithoutBitsandbytes, AskedForByNameItIsAnErrorThatNamesPlatformAndAlternative) {
  MemoryEnv env;
  EXPECT_THAT(ChooseOptimizer(v1::Training::ADAMW8BIT, at::kFloat, at::kCPU, "", env),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("training.optimizer: ADAMW8BIT on CPU"), HasSubstr("/no/such/library.so"),
                             HasSubstr("STUDIO_BITSANDBYTES"), HasSubstr("or use ADAMW"))));
}

TEST_F(WithoutBitsandbytes, MetalHasNone) {
  MemoryEnv env;
  EXPECT_THAT(ChooseOptimizer(v1::Training::ADAMW8BIT, at::kFloat, at::Device(at::kMPS, 0), "", env),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("ADAMW8BIT on MPS")));
}

TEST_F(WithoutBitsandbytes, AResumedRunKeepsWhatItBeganWith) {
  MemoryEnv plain = EnvWith("ADAMW"), quantised = EnvWith("ADAMW8BIT");
  ASSERT_OK_AND_ASSIGN(const OptimizerChoice choice,
                       ChooseOptimizer(v1::Training::OPTIMIZER_AUTO, at::kFloat, at::kCPU, "/checkpoint", plain));
  EXPECT_EQ(choice.kind(), v1::Training::ADAMW);
  EXPECT_THAT(ChooseOptimizer(v1::Training::OPTIMIZER_AUTO, at::kFloat, at::kCPU, "/checkpoint", quantised),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("/checkpoint was trained with it")));
}

TEST(ChooseOptimizer, KeepsEightBitsToFp32Weights) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(const OptimizerChoice choice,
                       ChooseOptimizer(v1::Training::OPTIMIZER_AUTO, at::kBFloat16, at::kCPU, "", env));
  EXPECT_EQ(choice.kind(), v1::Training::ADAMW);
  EXPECT_THAT(ChooseOptimizer(v1::Training::ADAMW8BIT, at::kBFloat16, at::kCPU, "", env),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("use ADAMW")));
}

}  // namespace
}  // namespace studio
