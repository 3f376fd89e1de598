// Writes a trained model where other tools read it: a PEFT adapter folder, or a Hugging Face model folder.
//
//   RETURN_IF_ERROR(ExportAdapter(model, out_dir, "HuggingFaceTB/SmolLM2-135M-Instruct"));
//   RETURN_IF_ERROR(ExportModel(model, out_dir));         // adapters, if any, merged into the weights
//
// Folders are made. Files get their names once they are whole; config files come last, so that a folder that has one is
// complete.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "worker/trainer/model/causal_lm.h"

namespace studio {

// adapter_model.safetensors (fp32) and adapter_config.json, and the backbone's tokenizer files, as PEFT and
// Transformers load them. FailedPrecondition without LoRA. `base_model_name` goes into base_model_name_or_path.
absl::Status ExportAdapter(const CausalLm& model, const std::string& out_dir, const std::string& base_model_name);

struct ModelExportOptions {
  // "float32", "bfloat16", "float16"; empty: the type that the backbone's config.json names, else float32.
  std::string dtype;
  // A larger model is cut into shards with an index.
  int64_t max_shard_bytes = 5'000'000'000;
};

// config.json, model.safetensors (or shards), generation_config.json and the tokenizer's files.
absl::Status ExportModel(const CausalLm& model, const std::string& out_dir, const ModelExportOptions& options = {});

}  // namespace studio
