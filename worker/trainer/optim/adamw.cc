#include "worker/trainer/optim/adamw.h"

namespace studio {

AdamW::AdamW(const std::vector<Parameter>& parameters, Options options)
    : Optimizer(parameters, options), fused_(options) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    fused_.Add(parameters[i].name, weights()[i], grads()[i], parameters[i].decay);
  }
}

Optimizer::NamedTensors AdamW::State() const {
  NamedTensors state;
  fused_.AppendState(state);
  return state;
}

}  // namespace studio
