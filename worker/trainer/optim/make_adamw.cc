#include "worker/trainer/optim/make_adamw.h"

#include <utility>

#include "common/status/check.h"
#include "worker/trainer/optim/adamw.h"
#include "worker/trainer/optim/adamw_by_chance.h"

namespace studio {

std::unique_ptr<Optimizer> MakeAdamW(const std::vector<Optimizer::Parameter>& parameters, Optimizer::Options options,
                                     std::shared_ptr<const kernels::Operations> operations) {
  STUDIO_CHECK(!parameters.empty()) << "an optimizer without parameters";
  if (parameters[0].tensor.scalar_type() == at::kFloat) return std::make_unique<AdamW>(parameters, options);
  return std::make_unique<AdamWByChance>(parameters, options, std::move(operations));
}

}  // namespace studio
