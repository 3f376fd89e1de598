// Adapters' names, targets and files, as PEFT has them.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/trainer/model/options.h"

namespace studio {

// Whether the module gets an adapter: a target is its name or the end of it behind a dot.
bool IsLoraTarget(const LoraConfig& config, std::string_view module);

// "base_model.model." + module + ".lora_A.weight".
std::string LoraName(std::string_view module, char matrix);

// adapter_config.json of a PEFT folder. InvalidArgument for what would change the arithmetic and is not supported
// (DoRA, rank patterns, biases, …), naming the key.
absl::StatusOr<LoraConfig> ReadAdapterConfig(const std::string& dir);

}  // namespace studio
