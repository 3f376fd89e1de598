// Whether the planned step computes what a model's options ask for. Pure.
#pragma once

#include <string>

#include "worker/trainer/model/options.h"

namespace studio::planned {

// Empty where it does, else what stands against it, for the log: "dropout 0.1".
std::string WhyNot(const ModelOptions& options);

}  // namespace studio::planned
