// Writes what a model computes, for comparison with another implementation.
//
//   dump --model DIR --input FILE.json --out FILE.safetensors
//        [--adapter DIR]            PEFT adapter; r, alpha and targets are read from its adapter_config.json
//        [--dtype float32|bfloat16] compute and base type (float32)
//        [--attention auto|eager|sdpa]
//        [--checkpointing]          recompute layers in the backward pass
//        [--chunk ROWS]             rows of logits at once (512)
//        [--threads N]
//        [--frozen]                 no gradients: logits and loss alone
//        [--export-adapter DIR] [--export-model DIR] [--export-merged DIR]
//
// Without --adapter, and without --frozen, every weight is trained (gradients of all weights are written).
//
// The input: {"segments": [[1, 2, 3], [4, 5]], "labels": [[-100, 2, 3], [4, 5]]}
//   Each segment attends to itself alone and its positions start at 0. `labels` (optional, default: the tokens) are as
//   Transformers takes them: not shifted, -100 where nothing is learnt; the first label of a segment has no effect.
//
// The output, fp32 unless noted:
//   logits        [T, vocab_size], all segments in a row
//   loss_sum      [] fp64, sum over valid tokens      valid_tokens  [] int64
//   loss          [] fp64, their mean
//   grad.NAME     gradient of `loss` by NAME, for each trained tensor, under PEFT's or Hugging Face's names
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/safetensors/writer.h"
#include "common/status/macros.h"
#include "worker/trainer/export/export.h"
#include "worker/trainer/model/causal_lm.h"
#include "worker/trainer/model/lora.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/model/weights.h"

namespace studio {
namespace {

struct Flags {
  std::string model, adapter, input, out, dtype = "float32", attention = "auto";
  std::string export_adapter, export_model, export_merged;
  bool checkpointing = false;
  bool frozen = false;
  int64_t chunk = 512;
  int threads = 0;
};

absl::StatusOr<Batch> ReadBatch(const std::string& path) {
  std::ifstream stream(path);
  const nlohmann::json input = nlohmann::json::parse(stream, nullptr, false);
  if (!input.is_object() || !input.contains("segments")) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": want a JSON object with \"segments\""));
  }
  const auto segments = input["segments"].get<std::vector<std::vector<int64_t>>>();
  const auto labels = input.value("labels", segments);
  std::vector<int64_t> tokens, positions, shifted;
  Batch batch;
  batch.cu_seqlens = {0};
  for (size_t s = 0; s < segments.size(); ++s) {
    for (size_t i = 0; i < segments[s].size(); ++i) {
      tokens.push_back(segments[s][i]);
      positions.push_back(static_cast<int64_t>(i));
      shifted.push_back(i + 1 < segments[s].size() ? labels.at(s).at(i + 1) : -100);
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(tokens.size()));
  }
  batch.tokens = at::tensor(tokens, at::kLong);
  batch.positions = at::tensor(positions, at::kLong);
  batch.labels = at::tensor(shifted, at::kLong);
  return batch;
}

absl::Status Write(const std::string& path, const std::vector<NamedTensor>& tensors) {
  std::vector<safetensors::TensorSpec> specs;
  for (const NamedTensor& t : tensors) {
    specs.push_back({t.name, DtypeOf(t.tensor.scalar_type()), t.tensor.sizes().vec()});
  }
  ASSIGN_OR_RETURN(auto writer, safetensors::Writer::Create(path, specs));
  for (const NamedTensor& t : tensors) {
    const at::Tensor value = t.tensor.cpu().contiguous();
    RETURN_IF_ERROR(writer->Append({static_cast<const char*>(value.data_ptr()), value.nbytes()}));
  }
  return writer->Finish();
}

absl::Status Run(const Flags& flags) {
  if (flags.threads > 0) at::set_num_threads(flags.threads);
  ModelOptions options;
  ASSIGN_OR_RETURN(options.compute_dtype, ScalarTypeNamed(flags.dtype));
  options.base_dtype = options.compute_dtype;
  options.gradient_checkpointing = flags.checkpointing;
  options.loss_chunk_rows = flags.chunk;
  options.frozen = flags.frozen;
  options.attention = flags.attention == "eager"  ? Attention::kEager
                      : flags.attention == "sdpa" ? Attention::kSdpa
                                                  : Attention::kAuto;
  if (!flags.adapter.empty()) {
    ASSIGN_OR_RETURN(options.lora, ReadAdapterConfig(flags.adapter));
    options.lora->dropout = 0;
    options.adapter_dir = flags.adapter;
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<CausalLm> model, CausalLm::Load(flags.model, options));
  if (!flags.input.empty()) {
    ASSIGN_OR_RETURN(const Batch batch, ReadBatch(flags.input));
    std::vector<NamedTensor> tensors;
    RETURN_IF_ERROR(CatchTorchStatus([&] {
      tensors.push_back({"logits", model->Logits(batch)});
      const LossValue first = model->Evaluate(batch);
      const double mean = first.loss_sum / static_cast<double>(first.valid_tokens);
      tensors.push_back({"loss_sum", at::scalar_tensor(first.loss_sum, at::kDouble)});
      tensors.push_back({"valid_tokens", at::scalar_tensor(first.valid_tokens, at::kLong)});
      tensors.push_back({"loss", at::scalar_tensor(mean, at::kDouble)});
      if (flags.frozen) return;
      model->AccumulateGradients(batch, 1.0 / static_cast<double>(first.valid_tokens));
      for (const NamedParameter& p : model->TrainableParameters()) {
        tensors.push_back({absl::StrCat("grad.", p.name), p.tensor.grad()});
      }
    }));
    RETURN_IF_ERROR(Write(flags.out, tensors));
  }
  if (!flags.export_adapter.empty()) RETURN_IF_ERROR(ExportAdapter(*model, flags.export_adapter, flags.model));
  if (!flags.export_model.empty()) RETURN_IF_ERROR(ExportModel(*model, flags.export_model));
  if (!flags.export_merged.empty()) RETURN_IF_ERROR(ExportModel(*model, flags.export_merged));
  return absl::OkStatus();
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  studio::Flags flags;
  CLI::App app("Writes what a model computes, for comparison with another implementation.");
  app.add_option("--model", flags.model)->required();
  app.add_option("--adapter", flags.adapter);
  app.add_option("--input", flags.input);
  app.add_option("--out", flags.out);
  app.add_option("--dtype", flags.dtype);
  app.add_option("--attention", flags.attention);
  app.add_flag("--checkpointing", flags.checkpointing);
  app.add_flag("--frozen", flags.frozen);
  app.add_option("--chunk", flags.chunk);
  app.add_option("--threads", flags.threads);
  app.add_option("--export-adapter", flags.export_adapter);
  app.add_option("--export-model", flags.export_model);
  app.add_option("--export-merged", flags.export_merged);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = studio::Run(flags);
  if (!status.ok()) std::cerr << status << std::endl;
  return status.ok() ? 0 : 65;
}
