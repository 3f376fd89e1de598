#include "worker/trainer/planned/applies.h"

#include "absl/strings/str_cat.h"

namespace studio::planned {

std::string WhyNot(const ModelOptions& options) {
  if (options.frozen) return "nothing is trained";
  if (!options.lora && options.trained_dtype != options.compute_dtype) {
    return "every weight is trained and kept in another type than mixed_precision_dtype";
  }
  if (options.neftune_alpha > 0) return absl::StrCat("neftune_noise_alpha ", options.neftune_alpha);
  if (options.gradient_checkpointing) return "gradient_checkpointing";
  if (options.attention == Attention::kEager) return "attention_implementation EAGER";
  if (options.lora && options.base_dtype != options.compute_dtype)
    return "backbone_dtype differs from mixed_precision_dtype";
  // The factor 1 / tokens goes into the logits' gradient, which fp16 has no room for.
  if (options.compute_dtype != at::kFloat && options.compute_dtype != at::kBFloat16) return "float16";
  return "";
}

}  // namespace studio::planned
