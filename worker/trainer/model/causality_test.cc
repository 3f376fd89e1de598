// No token sees a later one, whatever attention computes it and on whatever device: LibTorch's own is not always right
// there (device/traits.h).
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include "absl/strings/str_cat.h"
#include "common/status/testing.h"
#include "worker/trainer/device/device.h"
#include "worker/trainer/device/traits.h"
#include "worker/trainer/model/tiny_model.h"

namespace studio {
namespace {

using testing::HasSubstr;

constexpr int64_t kLength = 40;

Batch OnDevice(Batch batch, at::Device device) {
  batch.tokens = batch.tokens.to(device);
  batch.positions = batch.positions.to(device);
  if (batch.labels.defined()) batch.labels = batch.labels.to(device);
  return batch;
}

// [T, vocab] of a row between two others, one of which has another length: segments are packed as in training.
at::Tensor Logits(CausalLm& model, const std::vector<int64_t>& row) {
  const Batch batch = Segments({RandomTokens(kLength, 1), row, RandomTokens(7, 2)});
  return model.Logits(OnDevice(batch, model.options().device));
}

// Every place that a change of token `changed` may show at begins there.
void ExpectNoEarlierChange(CausalLm& model) {
  const std::vector<int64_t> row = RandomTokens(kLength, 5);
  const at::Tensor before = Logits(model, row);
  for (const int64_t changed : {int64_t{1}, int64_t{15}, int64_t{16}, int64_t{30}, kLength - 1}) {
    std::vector<int64_t> other = row;
    other[changed] = (other[changed] + 1) % 96;
    const at::Tensor after = Logits(model, other);
    const int64_t at = kLength + changed;
    EXPECT_TRUE(at::equal(before.narrow(0, 0, at), after.narrow(0, 0, at))) << "token " << changed;
    EXPECT_FALSE(at::equal(before.narrow(0, at, kLength - changed), after.narrow(0, at, kLength - changed)))
        << "nothing changed at all";
    EXPECT_TRUE(at::equal(before.narrow(0, 2 * kLength, 7), after.narrow(0, 2 * kLength, 7))) << "the next segment";
  }
}

class EveryDevice : public testing::TestWithParam<at::Device> {};
INSTANTIATE_TEST_SUITE_P(Here, EveryDevice, testing::ValuesIn(AllDevices()), [](const auto& device) {
  return std::string(c10::DeviceTypeName(device.param.type())) +
         (device.param.has_index() ? std::to_string(device.param.index()) : "");
});

ModelOptions Options(at::Device device, Attention attention, at::ScalarType type) {
  ModelOptions options;
  options.device = device;
  options.attention = attention;
  options.compute_dtype = options.base_dtype = type;
  options.frozen = true;
  return options;
}

TEST_P(EveryDevice, NoTokenSeesALaterOne) {
  constexpr int64_t kTinyHeadDim = 16;
  for (const Attention attention : {Attention::kAuto, Attention::kEager, Attention::kSdpa, Attention::kFlash}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      if (type == at::kHalf && GetParam().is_cpu()) continue;
      if (attention == Attention::kFlash && !WhyNoFlashAttention(TraitsOf(GetParam()), type, kTinyHeadDim).empty()) {
        continue;
      }
      SCOPED_TRACE(absl::StrCat("attention ", static_cast<int>(attention), " in ", c10::toString(type)));
      ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("causality", Options(GetParam(), attention, type)));
      ExpectNoEarlierChange(*model);
    }
  }
}

TEST_P(EveryDevice, FlashAttentionThatDoesNotRunIsRefusedWithItsReason) {
  EXPECT_THAT(LoadTiny("refused", Options(GetParam(), Attention::kFlash, at::kFloat)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       testing::AllOf(HasSubstr("FLASH_ATTENTION_2 does not run here"), HasSubstr("use SDPA"))));
}

}  // namespace
}  // namespace studio
