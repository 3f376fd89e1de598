#include "worker/trainer/optim/make_adamw.h"

#include <utility>

#include "common/status/check.h"
#include "worker/trainer/optim/adamw.h"
#include "worker/trainer/optim/kernel_adamw.h"

namespace studio {

std::unique_ptr<Optimizer> MakeAdamW(const std::vector<Optimizer::Parameter>& parameters, Optimizer::Options options,
                                     std::shared_ptr<const kernels::Operations> operations) {
  STUDIO_CHECK(!parameters.empty()) << "an optimizer without parameters";
  const at::Tensor& first = parameters[0].tensor;
  if (first.scalar_type() == at::kFloat && (operations == nullptr || !first.is_cuda())) {
    return std::make_unique<AdamW>(parameters, options);
  }
  return std::make_unique<KernelAdamW>(parameters, options, std::move(operations));
}

}  // namespace studio
