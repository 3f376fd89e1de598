#include "worker/trainer/model/torch_status.h"

#include <c10/util/Exception.h>

#include <new>

#include "common/memory/out_of_memory.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using absl::StatusCode;
using testing::HasSubstr;
using testing::Not;

TEST(CatchTorch, TellsMemoryFromTheRest) {
  EXPECT_THAT(CatchTorchStatus([] { throw std::bad_alloc(); }),
              StatusIs(StatusCode::kResourceExhausted, HasSubstr("bad_alloc")));
  EXPECT_THAT(CatchTorchStatus([] { TORCH_CHECK(false, "CUDA error: out of memory\nCompile with …"); }),
              StatusIs(StatusCode::kResourceExhausted, Not(HasSubstr("Compile"))));
  EXPECT_THAT(CatchTorchStatus([] { TORCH_CHECK(false, "mat1 and mat2 shapes cannot be multiplied"); }),
              StatusIs(StatusCode::kInternal, HasSubstr("mat1")));
  EXPECT_OK(CatchTorchStatus([] {}));
}

TEST(CatchTorch, KeepsTheLineThatSaysWhoseMemoryItWas) {
  const absl::Status status = CatchTorchStatus(
      [] { TORCH_CHECK(false, "NCCL error, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"); });
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(OomOf(std::string(status.message())), Oom::kCollective);
}

}  // namespace
}  // namespace studio
