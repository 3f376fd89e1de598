// Writes what a model computes, for comparison with another implementation.
//
//   dump --model DIR --batch FILE.safetensors --out FILE.safetensors
//        [--adapter DIR]            PEFT adapter: its A and B are trained; r, alpha and targets come from its config
//        [--full]                   every weight is trained; without either there are no gradients
//        [--dtype float32|bfloat16] compute and base type (float32)
//        [--attention auto|eager|sdpa]
//        [--checkpointing]          recompute layers in the backward pass
//        [--chunk ROWS]             rows of logits at once (512)
//        [--threads N]
//        [--repeat N]               run loss and gradients N times more and print wall and CPU milliseconds of each
//        [--export-adapter DIR] [--export-model DIR]   afterwards; the model export has the adapter merged
//
// The batch: `tokens`, `positions`, `labels` [T] and `cu_seqlens` [n + 1], all int64, as batch.h describes them (labels
// shifted already, -100 where nothing is learnt).
//
// The output, fp32 unless noted:
//   logits        [T, vocab_size]
//   loss_sum      [] fp64, sum over valid tokens      valid_tokens  [] int64
//   loss          [] fp64, their mean
//   grad.NAME     gradient of `loss` by NAME, for each trained tensor, under PEFT's or Hugging Face's names
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstring>
#include <ctime>
#include <iostream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/safetensors/reader.h"
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
  std::string model, adapter, batch, out, dtype = "float32", attention = "auto";
  std::string export_adapter, export_model;
  bool checkpointing = false;
  bool full = false;
  int64_t chunk = 512;
  int threads = 0;
  int repeat = 0;
};

absl::StatusOr<Batch> ReadBatch(const std::string& path) {
  ASSIGN_OR_RETURN(const auto file, safetensors::File::Open(path));
  absl::Status status;
  const auto read = [&](const char* name) {
    at::Tensor value = at::empty({0}, at::TensorOptions(at::kLong));
    const safetensors::Tensor* tensor = file->Find(name);
    if (tensor == nullptr || tensor->info.dtype != safetensors::Dtype::kI64 || tensor->info.shape.size() != 1) {
      status = absl::InvalidArgumentError(absl::StrCat(path, ": wants a list '", name, "' of int64"));
      return value;
    }
    value = at::empty({tensor->info.shape[0]}, at::TensorOptions(at::kLong));
    std::memcpy(value.data_ptr(), tensor->data.data(), tensor->data.size());
    return value;
  };
  Batch batch;
  batch.tokens = read("tokens");
  batch.positions = read("positions");
  batch.labels = read("labels");
  const at::Tensor bounds = read("cu_seqlens");
  RETURN_IF_ERROR(status);
  const int64_t* bound = bounds.data_ptr<int64_t>();
  batch.cu_seqlens.assign(bound, bound + bounds.numel());
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
  options.frozen = flags.adapter.empty() && !flags.full;
  options.attention = flags.attention == "eager"  ? Attention::kEager
                      : flags.attention == "sdpa" ? Attention::kSdpa
                                                  : Attention::kAuto;
  if (!flags.adapter.empty()) {
    ASSIGN_OR_RETURN(options.lora, ReadAdapterConfig(flags.adapter));
    options.lora->dropout = 0;
    options.adapter_dir = flags.adapter;
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<CausalLm> model, CausalLm::Load(flags.model, options));
  if (!flags.batch.empty()) {
    ASSIGN_OR_RETURN(const Batch batch, ReadBatch(flags.batch));
    std::vector<NamedTensor> tensors;
    RETURN_IF_ERROR(CatchTorchStatus([&] {
      tensors.push_back({"logits", model->Logits(batch)});
      const LossValue first = model->Evaluate(batch);
      const double mean = first.loss_sum / static_cast<double>(first.valid_tokens);
      tensors.push_back({"loss_sum", at::scalar_tensor(first.loss_sum, at::kDouble)});
      tensors.push_back({"valid_tokens", at::scalar_tensor(first.valid_tokens, at::kLong)});
      tensors.push_back({"loss", at::scalar_tensor(mean, at::kDouble)});
      if (options.frozen) return;
      model->AccumulateGradients(batch, 1.0 / static_cast<double>(first.valid_tokens));
      for (const NamedParameter& p : model->TrainableParameters()) {
        tensors.push_back({absl::StrCat("grad.", p.name), p.tensor.grad()});
      }
    }));
    RETURN_IF_ERROR(Write(flags.out, tensors));
    for (int i = 0; i < flags.repeat; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      const std::clock_t cpu = std::clock();
      RETURN_IF_ERROR(CatchTorch([&] { model->AccumulateGradients(batch, 1); }));
      const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - begin;
      std::cout << "step " << wall.count() << " ms wall, " << 1e3 * (std::clock() - cpu) / CLOCKS_PER_SEC
                << " ms cpu\n";
    }
  }
  if (!flags.export_adapter.empty()) RETURN_IF_ERROR(ExportAdapter(*model, flags.export_adapter, flags.model));
  if (!flags.export_model.empty()) RETURN_IF_ERROR(ExportModel(*model, flags.export_model));
  return absl::OkStatus();
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  studio::Flags flags;
  CLI::App app("Writes what a model computes, for comparison with another implementation.");
  app.add_option("--model", flags.model)->required();
  app.add_option("--adapter", flags.adapter);
  app.add_option("--batch", flags.batch);
  app.add_option("--out", flags.out);
  app.add_option("--dtype", flags.dtype);
  app.add_option("--attention", flags.attention);
  app.add_flag("--checkpointing", flags.checkpointing);
  app.add_flag("--full", flags.full);
  app.add_option("--chunk", flags.chunk);
  app.add_option("--threads", flags.threads);
  app.add_option("--repeat", flags.repeat);
  app.add_option("--export-adapter", flags.export_adapter);
  app.add_option("--export-model", flags.export_model);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = studio::Run(flags);
  if (!status.ok()) std::cerr << status << std::endl;
  return status.ok() ? 0 : 65;
}
