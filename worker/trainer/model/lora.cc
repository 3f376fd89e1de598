#include "worker/trainer/model/lora.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace studio {
namespace {

using Json = nlohmann::json;

// A key that must be absent, null, false or empty.
bool IsOff(const Json& config, const char* key) {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() || found->empty() || *found == false || *found == "none";
}

}  // namespace

double LoraConfig::Scale() const {
  return rslora ? alpha / std::sqrt(static_cast<double>(r)) : alpha / static_cast<double>(r);
}

bool IsLoraTarget(const LoraConfig& config, std::string_view module) {
  if (config.target_modules.empty()) return true;
  for (const std::string& target : config.target_modules) {
    if (module == target) return true;
    if (module.size() > target.size() && module.ends_with(target) && module[module.size() - target.size() - 1] == '.') {
      return true;
    }
  }
  return false;
}

std::string LoraName(std::string_view module, char matrix) {
  return absl::StrCat("base_model.model.", std::string(module), ".lora_", std::string(1, matrix), ".weight");
}

absl::StatusOr<LoraConfig> ReadAdapterConfig(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/adapter_config.json");
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read; an adapter folder needs adapter_config.json"));
  }
  std::ostringstream text;
  text << stream.rdbuf();
  const Json config = Json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
  const auto bad = [&](const std::string& what) { return absl::InvalidArgumentError(absl::StrCat(path, ": ", what)); };
  if (!config.is_object()) return bad("not a JSON object");
  if (config.value("peft_type", Json("LORA")) != "LORA") {
    return bad(absl::StrCat("peft_type ", config["peft_type"].dump(), " is not supported; supported is LORA"));
  }
  for (const char* key : {"use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "bias", "lora_bias",
                          "fan_in_fan_out", "layers_to_transform", "layer_replication", "trainable_token_indices",
                          "target_parameters", "use_bdlora", "use_qalora"}) {
    if (!IsOff(config, key)) return bad(absl::StrCat("'", key, "' is not supported"));
  }
  LoraConfig lora;
  const Json r = config.value("r", Json());
  const Json alpha = config.value("lora_alpha", Json());
  if (!r.is_number_integer() || r.get<int64_t>() < 1 || r.get<int64_t>() > 65536) return bad("'r' must be 1 to 65536");
  if (!alpha.is_number() || !(alpha.get<double>() > 0)) return bad("'lora_alpha' must be a number above 0");
  lora.r = r.get<int64_t>();
  lora.alpha = alpha.get<double>();
  if (const Json dropout = config.value("lora_dropout", Json(0.0)); dropout.is_number()) {
    lora.dropout = dropout.get<double>();
  }
  if (!(lora.dropout >= 0 && lora.dropout < 1)) return bad("'lora_dropout' must be from 0 to below 1");
  lora.rslora = config.value("use_rslora", Json(false)) == true;
  const Json targets = config.value("target_modules", Json());
  if (targets == "all-linear") return lora;
  if (!targets.is_array() || targets.empty()) return bad("'target_modules' must be a list of names or \"all-linear\"");
  for (const Json& target : targets) {
    if (!target.is_string() || target.get_ref<const std::string&>().empty()) {
      return bad("'target_modules' holds something that is not a name");
    }
    lora.target_modules.push_back(target.get<std::string>());
  }
  return lora;
}

}  // namespace studio
