#include "worker/trainer/optim/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace studio {
namespace {

// Expected values: transformers 5.17, 3 warm-up steps of 12, peak 1.
struct Case {
  const char* name;
  Schedule schedule;
  std::vector<double> expected;
};

const Case kCases[] = {
    {"Cosine",
     {v1::Training::COSINE, 1.0, 0.0, 3, 12},
     {0.0, 0.3333333333333333, 0.6666666666666666, 1.0, 0.9698463103929542, 0.883022221559489, 0.75, 0.5868240888334653,
      0.41317591116653485, 0.2500000000000001, 0.11697777844051105, 0.03015368960704584, 0.0}},
    {"CosineWithMinimum",
     {v1::Training::COSINE, 1.0, 0.1, 3, 12},
     {0.0, 0.3333333333333333, 0.6666666666666666, 1.0, 0.9728616793536587, 0.8947199994035401, 0.775,
      0.6281416799501187, 0.4718583200498814, 0.3250000000000001, 0.20528000059645996, 0.12713832064634126, 0.1}},
    {"CosineWithoutWarmup",
     {v1::Training::COSINE, 1.0, 0.0, 0, 12},
     {1.0, 0.9829629131445341, 0.9330127018922194, 0.8535533905932737, 0.75, 0.6294095225512604, 0.5,
      0.3705904774487396, 0.2500000000000001, 0.14644660940672627, 0.06698729810778065, 0.0170370868554659, 0.0}},
    {"Linear",
     {v1::Training::LINEAR, 1.0, 0.0, 3, 12},
     {0.0, 0.3333333333333333, 0.6666666666666666, 1.0, 0.8888888888888888, 0.7777777777777778, 0.6666666666666666,
      0.5555555555555556, 0.4444444444444444, 0.3333333333333333, 0.2222222222222222, 0.1111111111111111, 0.0}},
    {"Constant",
     {v1::Training::CONSTANT, 1.0, 0.5, 3, 12},
     {0.0, 0.3333333333333333, 0.6666666666666666, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}},
};

TEST(Schedule, AgreesWithTransformers) {
  for (const Case& test : kCases) {
    for (size_t step = 0; step < test.expected.size(); ++step) {
      EXPECT_NEAR(LearningRate(test.schedule, step), test.expected[step], 1e-15) << test.name << " step " << step;
    }
  }
}

TEST(Schedule, RoundsTheWarmupRatioUp) {
  v1::Training training;
  training.set_learning_rate(2e-4);
  training.set_warmup_ratio(0.03);
  EXPECT_EQ(MakeSchedule(training, 10).warmup_steps, 1);
  EXPECT_EQ(MakeSchedule(training, 100).warmup_steps, 3);
  EXPECT_EQ(MakeSchedule(training, 101).warmup_steps, 4);
  training.set_warmup_steps(0);
  EXPECT_EQ(MakeSchedule(training, 101).warmup_steps, 0) << "warmup_steps goes before warmup_ratio";
  EXPECT_DOUBLE_EQ(LearningRate(MakeSchedule(training, 101), 0), 2e-4);
}

}  // namespace
}  // namespace studio
