// NCCL on one card: a group of one rank. Ranks::Join makes no group for one, so this asks the backend itself.
#include <ATen/Context.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros_like.h>

#include <memory>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <vector>

#include "common/status/testing.h"
#include "worker/trainer/parallel/nccl_backend.h"

namespace studio {
namespace {

class NcclTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "needs a CUDA device";
    ASSERT_OK(CheckNccl());
    const at::Device device(at::kCUDA, 0);
    const auto store = c10::make_intrusive<c10d::HashStore>();
    group_ = c10::make_intrusive<c10d::ProcessGroup>(store, 0, 1);
    group_->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL,
                       MakeNccl(store, 0, 1, absl::Minutes(1), device));
    group_->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
    numbers_ = at::arange(1 << 20, at::TensorOptions(device).dtype(at::kFloat));
  }
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  at::Tensor numbers_;
};

TEST_F(NcclTest, OneRankSumsItsOwnNumbers) {
  std::vector<at::Tensor> sum = {numbers_.clone()};
  group_->allreduce(sum)->wait();
  EXPECT_TRUE(at::equal(sum[0], numbers_));
}

TEST_F(NcclTest, OneRankBroadcastsToItself) {
  std::vector<at::Tensor> sent = {numbers_.to(at::kBFloat16)};
  const at::Tensor before = sent[0].clone();
  group_->broadcast(sent)->wait();
  EXPECT_TRUE(at::equal(sent[0], before));
}

TEST_F(NcclTest, OneRankGathersItself) {
  std::vector<std::vector<at::Tensor>> parts = {{at::zeros_like(numbers_)}};
  std::vector<at::Tensor> mine = {numbers_};
  group_->allgather(parts, mine)->wait();
  EXPECT_TRUE(at::equal(parts[0][0], numbers_));
}

}  // namespace
}  // namespace studio
