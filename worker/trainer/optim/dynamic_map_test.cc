#include "worker/trainer/optim/dynamic_map.h"

#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace studio {
namespace {

// Expected values: bitsandbytes 0.50.2, functional.create_dynamic_map(signed).
void ExpectMap(const at::Tensor& map, const std::vector<std::pair<int, float>>& values, double sum, double squares) {
  ASSERT_EQ(map.numel(), 256);
  for (const auto& [index, value] : values) EXPECT_EQ(map.const_data_ptr<float>()[index], value) << index;
  EXPECT_NEAR(map.to(at::kDouble).sum().item<double>(), sum, 1e-12);
  EXPECT_NEAR(map.to(at::kDouble).pow(2).sum().item<double>(), squares, 1e-12);
  EXPECT_TRUE((map.narrow(0, 1, 255) > map.narrow(0, 0, 255)).all().item<bool>()) << "not ascending";
}

TEST(DynamicMap, SignedIsBitsandbytesOwn) {
  ExpectMap(DynamicMap(true),
            {{0, -0.992968738079071f},
             {1, -0.9789062738418579f},
             {63, -0.10703125596046448f},
             {127, 0.0f},
             {128, 5.500000384017767e-07f},
             {129, 3.250000190746505e-06f},
             {200, 0.23359374701976776f},
             {254, 0.992968738079071f},
             {255, 1.0f}},
            1.0, 48.59583766729017);
}

TEST(DynamicMap, UnsignedIsBitsandbytesOwn) {
  ExpectMap(DynamicMap(false),
            {{0, 0.0f},
             {1, 3.2500003044333425e-07f},
             {63, 0.010703125968575478f},
             {127, 0.103515625f},
             {128, 0.11054687201976776f},
             {129, 0.11757812649011612f},
             {200, 0.6167968511581421f},
             {254, 0.9964843988418579f},
             {255, 1.0f}},
            75.1052632433869, 48.597452105100956);
}

}  // namespace
}  // namespace studio
