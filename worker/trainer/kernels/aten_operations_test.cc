#include "worker/trainer/kernels/aten_operations.h"

#include "worker/trainer/kernels/testing/conformance.h"

namespace studio::kernels {
namespace {

const Operations* Aten() {
  static const std::unique_ptr<Operations> operations = MakeAtenOperations();
  return operations.get();
}

INSTANTIATE_TEST_SUITE_P(Cpu, OperationsTest,
                         testing::Values(Backend{"fp32", at::kCPU, at::kFloat, Aten()},
                                         Backend{"bf16", at::kCPU, at::kBFloat16, Aten()}),
                         BackendName);

}  // namespace
}  // namespace studio::kernels
