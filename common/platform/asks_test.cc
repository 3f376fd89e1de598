#include "common/platform/asks.h"

#include <set>

#include "common/platform/features.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

v1::Inventory Machine(v1::Backend backend, v1::Arch arch, const std::vector<std::string>& found = {}) {
  v1::Inventory inventory;
  inventory.set_backend(backend);
  inventory.set_arch(arch);
  for (const std::string& feature : found) inventory.add_features(feature);
  return inventory;
}

v1::Job Flash() {
  v1::Job job;
  job.mutable_training()->set_attention_implementation(v1::Training::FLASH_ATTENTION_2);
  return job;
}

// "field: message" of the only problem; empty where there is none.
std::string Problem(const v1::Job& job) {
  const std::vector<PlatformProblem> problems = NeverWorks(job);
  EXPECT_LE(problems.size(), 1);
  return problems.empty() ? "" : problems[0].field + ": " + problems[0].message;
}

TEST(CapabilityMatrix, HasACellForEveryChoiceOfAJob) {
  for (const Platform& platform : kPlatforms) {
    const auto there = [&](Axis axis, const std::string& choice) {
      EXPECT_NE(CellAt(axis, choice, platform), nullptr) << choice << " on " << NameOf(platform);
    };
    for (int i = v1::Training::EAGER; i <= v1::Training::Attention_MAX; ++i) {
      there(Axis::kAttention, v1::Training::Attention_Name(static_cast<v1::Training::Attention>(i)));
    }
    for (int i = v1::Architecture::FLOAT32; i <= v1::Architecture::Dtype_MAX; ++i) {
      there(Axis::kPrecision, v1::Architecture::Dtype_Name(static_cast<v1::Architecture::Dtype>(i)));
    }
    for (const char* optimizer : AutoOrder(Axis::kOptimizer)) there(Axis::kOptimizer, optimizer);
  }
  EXPECT_EQ(CellAt(Axis::kAttention, "SDPA", {v1::MPS, v1::X86_64}), nullptr);
}

TEST(CapabilityMatrix, EveryFallbackIsNamedAndEveryAutoEndsInWhatWorksEverywhere) {
  for (const Capability& row : CapabilityMatrix()) {
    for (const Cell& cell : row.cells) {
      const bool needs_instead = cell.verdict != Verdict::kWorks || *cell.feature != '\0';
      EXPECT_TRUE(!needs_instead || *cell.instead != '\0') << row.choice;
      EXPECT_TRUE(cell.verdict != Verdict::kWhereFound || *cell.feature != '\0') << row.choice;
    }
  }
  for (const Axis axis : {Axis::kAttention, Axis::kPrecision, Axis::kOptimizer}) {
    for (const Platform& platform : kPlatforms) {
      const Cell* const last = CellAt(axis, AutoOrder(axis).back(), platform);
      ASSERT_NE(last, nullptr);
      EXPECT_EQ(last->verdict, Verdict::kWorks);
      EXPECT_STREQ(last->feature, "");
    }
  }
}

TEST(NeverWorks, LetsThroughWhatSomePlatformCanDo) {
  EXPECT_EQ(Problem({}), "");
  EXPECT_EQ(Problem(Flash()), "") << "a card may come";
  v1::Job job = Flash();
  job.mutable_resources()->set_backend(v1::CUDA);
  job.mutable_resources()->set_arch(v1::ARM64);
  EXPECT_EQ(Problem(job), "") << "whether the card is new enough shows on the machine";
  job.mutable_training()->set_optimizer(v1::Training::ADAMW8BIT);
  EXPECT_EQ(Problem(job), "") << "whether bitsandbytes is there shows on the machine";
}

TEST(NeverWorks, RefusesWhatTheNamedPlatformCannotDo) {
  v1::Job flash = Flash();
  flash.mutable_resources()->set_backend(v1::MPS);
  EXPECT_EQ(Problem(flash),
            "training.attention_implementation: FLASH_ATTENTION_2 never works on MPS; use SDPA, or ask "
            "for another resources.backend");
  v1::Job half;
  half.mutable_environment()->set_mixed_precision_dtype(v1::Architecture::FLOAT16);
  EXPECT_EQ(Problem(half), "");
  half.mutable_resources()->set_backend(v1::CPU);
  half.mutable_resources()->set_arch(v1::ARM64);
  EXPECT_EQ(Problem(half),
            "environment.mixed_precision_dtype: FLOAT16 never works on CPU on ARM64; use BFLOAT16 or "
            "FLOAT32, or ask for another resources.backend");
  v1::Job base;
  base.mutable_architecture()->set_backbone_dtype(v1::Architecture::FLOAT16);
  base.mutable_resources()->set_backend(v1::CPU);
  EXPECT_THAT(Problem(base), HasSubstr("architecture.backbone_dtype: FLOAT16 never works on CPU"));
  v1::Job adam;
  adam.mutable_training()->set_optimizer(v1::Training::ADAMW8BIT);
  adam.mutable_resources()->set_backend(v1::MPS);
  EXPECT_THAT(Problem(adam), HasSubstr("training.optimizer: ADAMW8BIT never works on MPS; use ADAMW"));
  v1::Job many;
  many.mutable_resources()->set_backend(v1::MPS);
  many.mutable_resources()->set_devices(2);
  EXPECT_THAT(Problem(many), HasSubstr("resources.devices: 2 never works on MPS; use 1"));
}

TEST(NeverWorks, RefusesAPlatformThatIsNone) {
  v1::Job job;
  job.mutable_resources()->set_backend(v1::MPS);
  job.mutable_resources()->set_arch(v1::X86_64);
  EXPECT_EQ(Problem(job),
            "resources.arch: X86_64 with resources.backend MPS: there is no such platform; leave one of "
            "them out");
}

TEST(NeverWorks, RefusesFlashAttentionInFloat32) {
  v1::Job job = Flash();
  job.mutable_environment()->set_mixed_precision_dtype(v1::Architecture::FLOAT32);
  EXPECT_THAT(Problem(job), HasSubstr("FLASH_ATTENTION_2 has no FLOAT32"));
}

TEST(WhyNot, GoesByTheMachinesFeatures) {
  const Asks asks = AsksOf(Flash());
  EXPECT_EQ(WhyNot(asks, Machine(v1::CUDA, v1::X86_64, {features::kFlashAttention2})), "");
  EXPECT_EQ(
      WhyNot(asks, Machine(v1::CUDA, v1::X86_64)),
      "FLASH_ATTENTION_2 needs flash_attention_2, which it does not have (training.attention_implementation; SDPA "
      "works there)");
  EXPECT_EQ(WhyNot(asks, Machine(v1::CPU, v1::ARM64)),
            "FLASH_ATTENTION_2 does not work on CPU ARM64 (training.attention_implementation; SDPA does)");
  EXPECT_EQ(WhyNot(AsksOf({}), Machine(v1::CPU, v1::ARM64)), "");
}

TEST(WhyNot, EightBitStatesNeedBitsandbytes) {
  v1::Job job;
  job.mutable_training()->set_optimizer(v1::Training::ADAMW8BIT);
  EXPECT_EQ(WhyNot(AsksOf(job), Machine(v1::CUDA, v1::ARM64, {features::kBitsandbytes})), "");
  EXPECT_EQ(WhyNot(AsksOf(job), Machine(v1::CUDA, v1::ARM64)),
            "ADAMW8BIT needs bitsandbytes, which it does not have (training.optimizer; ADAMW works there)");
  job.mutable_training()->set_optimizer(v1::Training::OPTIMIZER_AUTO);
  EXPECT_EQ(WhyNot(AsksOf(job), Machine(v1::MPS, v1::ARM64)), "");
}

TEST(WhyNot, SlowIsNoObstacle) {
  v1::Job job;
  job.mutable_environment()->set_mixed_precision_dtype(v1::Architecture::BFLOAT16);
  EXPECT_EQ(WhyNot(AsksOf(job), Machine(v1::CPU, v1::X86_64)), "");
}

TEST(AutoFallbacks, SayWhatAutoBecomes) {
  EXPECT_THAT(AutoFallbacks({}, Machine(v1::CUDA, v1::ARM64, {features::kBf16, features::kFlashAttention2})),
              IsEmpty());
  EXPECT_THAT(
      AutoFallbacks({}, Machine(v1::CPU, v1::X86_64)),
      ElementsAre(
          "training.attention_implementation: auto takes SDPA, as FLASH_ATTENTION_2 is not for this CPU x86-64 "
          "machine",
          "environment.mixed_precision_dtype: auto takes FLOAT32, as BFLOAT16 is slow on this CPU x86-64 machine "
          "without bf16"));
  EXPECT_THAT(
      AutoFallbacks({}, Machine(v1::CUDA, v1::X86_64, {features::kBf16})),
      ElementsAre(HasSubstr("FLASH_ATTENTION_2 is not for this NVIDIA x86-64 machine without flash_attention_2")));
}

TEST(AutoFallbacks, TellOfTheOptimizerWhereItWasLeftToAuto) {
  v1::Job job;
  job.mutable_training()->set_optimizer(v1::Training::OPTIMIZER_AUTO);
  const std::vector<std::string> fast = {features::kBf16, features::kFlashAttention2};
  EXPECT_THAT(AutoFallbacks(job, Machine(v1::CUDA, v1::X86_64, fast)),
              ElementsAre("training.optimizer: auto takes ADAMW, as ADAMW8BIT is not for this NVIDIA x86-64 machine "
                          "without bitsandbytes"));
  EXPECT_THAT(AutoFallbacks(job, Machine(v1::MPS, v1::ARM64, {features::kBf16})),
              testing::Contains("training.optimizer: auto takes ADAMW, as ADAMW8BIT is not for this Apple Silicon "
                                "machine"));
}

TEST(AutoFallbacks, AreSilentOfWhatWasChosen) {
  v1::Job job;
  job.mutable_training()->set_attention_implementation(v1::Training::EAGER);
  job.mutable_environment()->set_mixed_precision_dtype(v1::Architecture::FLOAT32);
  EXPECT_THAT(AutoFallbacks(job, Machine(v1::CPU, v1::X86_64)), IsEmpty());
}

}  // namespace
}  // namespace studio
