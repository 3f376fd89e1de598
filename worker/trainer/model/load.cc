// How a model comes into being: shapes from config.json, weights from a folder or a seed, adapters on top.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/safetensors/reader.h"
#include "common/status/macros.h"
#include "worker/trainer/model/causal_lm_impl.h"
#include "worker/trainer/model/lora.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/model/weights.h"

namespace studio {
namespace {

constexpr char kEmbedding[] = "model.embed_tokens.weight";
constexpr char kHead[] = "lm_head.weight";

// Tensors that older folders carry and that say nothing.
bool MayBeIgnored(const std::string& name, bool tied) {
  return absl::EndsWith(name, ".rotary_emb.inv_freq") || (tied && name == kHead);
}

absl::Status CheckTargets(const LoraConfig& config, const std::vector<DecoderLayer>& layers) {
  for (const std::string& target : config.target_modules) {
    bool found = false;
    for (const DecoderLayer& layer : layers) {
      for (const LinearGroup* group : layer.groups()) {
        for (const LinearMember& member : group->members()) {
          LoraConfig one = config;
          one.target_modules = {target};
          found = found || IsLoraTarget(one, member.name);
        }
      }
      if (found) break;
    }
    if (!found) {
      return absl::InvalidArgumentError(
          absl::StrCat("lora_target_modules: '", target,
                       "' is no linear layer of this model; there are q_proj, k_proj, v_proj, o_proj, gate_proj, "
                       "up_proj, down_proj"));
    }
  }
  return absl::OkStatus();
}

// Room beside a group's matrix for its members' adapters. Products over them stay aligned: 64 columns is what a tile of
// a GPU's matrix product takes, 16 bf16 are half a vector register of a CPU.
int64_t BorderOf(const ModelOptions& options, const LinearGroup& group) {
  if (!options.bordered || !options.lora || options.frozen || options.base_dtype != options.compute_dtype) return 0;
  int64_t rank = 0;
  for (const LinearMember& member : group.members()) {
    if (IsLoraTarget(*options.lora, member.name)) rank += options.lora->r;
  }
  const int64_t unit = options.device.is_cuda() ? 64 : 16;
  return (rank + unit - 1) / unit * unit;
}

}  // namespace

std::vector<CausalLm::Impl::Slot> CausalLm::Impl::Slots() {
  std::vector<Slot> slots = {{kEmbedding, &embedding, Slot::kMatrix}};
  for (size_t i = 0; i < layers.size(); ++i) {
    DecoderLayer& layer = layers[i];
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    slots.push_back({prefix + "input_layernorm.weight", &layer.input_norm, Slot::kNorm});
    for (LinearGroup* group : layer.groups()) {
      if (group == &layer.gate_up) {
        slots.push_back({prefix + "post_attention_layernorm.weight", &layer.post_attention_norm, Slot::kNorm});
      }
      for (LinearMember& member : group->members()) {
        slots.push_back({member.name + ".weight", &member.weight, Slot::kMatrix, group, &member});
        if (member.bias.defined()) slots.push_back({member.name + ".bias", &member.bias, Slot::kBias});
      }
    }
  }
  slots.push_back({"model.norm.weight", &final_norm, Slot::kNorm});
  if (!arch.tie_word_embeddings) slots.push_back({kHead, &head, Slot::kMatrix});
  return slots;
}

void CausalLm::Impl::Allocate() {
  const bool trained = !options.lora && !options.frozen;
  const auto type = at::TensorOptions(options.device).dtype(trained ? options.trained_dtype : options.base_dtype);
  const auto make = [&](at::IntArrayRef shape) { return at::empty(shape, type).requires_grad_(trained); };
  embedding = make({arch.vocab_size, arch.hidden_size});
  final_norm = make({arch.hidden_size});
  head = arch.tie_word_embeddings ? embedding : make({arch.vocab_size, arch.hidden_size});
  layers.reserve(static_cast<size_t>(arch.num_layers));  // groups are referred to by address
  for (int64_t i = 0; i < arch.num_layers; ++i) {
    DecoderLayer& layer = layers.emplace_back(arch, i);
    layer.input_norm = make({arch.hidden_size});
    layer.post_attention_norm = make({arch.hidden_size});
    for (LinearGroup* group : layer.groups()) group->Allocate(options, trained, BorderOf(options, *group));
  }
}

absl::Status CausalLm::Impl::ReadWeights() {
  ASSIGN_OR_RETURN(const safetensors::Folder folder, safetensors::Folder::Open(dir));
  std::set<std::string> known;
  for (const Slot& slot : Slots()) {
    known.insert(slot.name);
    const safetensors::Tensor* tensor = folder.Find(slot.name);
    if (tensor == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(dir, ": tensor '", slot.name, "' is missing from the weights"));
    }
    RETURN_IF_ERROR(CopyInto(*tensor, *slot.tensor));
  }
  for (const auto& [name, tensor] : folder.tensors()) {
    if (!known.contains(name) && !MayBeIgnored(name, arch.tie_word_embeddings)) {
      return absl::InvalidArgumentError(absl::StrCat(tensor->file, ": tensor '", name, "' has no place in a ",
                                                     arch.model_type, " model as config.json describes it"));
    }
  }
  return absl::OkStatus();
}

void CausalLm::Impl::DrawWeights() {
  at::NoGradGuard no_grad;
  for (const Slot& slot : Slots()) {
    switch (slot.kind) {
      case Slot::kMatrix:
        FillNormal(*slot.tensor, arch.initializer_range, options.seed, slot.name);
        break;
      case Slot::kNorm:
        slot.tensor->fill_(1);
        break;
      case Slot::kBias:
        slot.tensor->zero_();
        break;
    }
  }
}

absl::Status CausalLm::Impl::MakeAdapters() {
  at::NoGradGuard no_grad;
  RETURN_IF_ERROR(CheckTargets(*options.lora, layers));
  for (DecoderLayer& layer : layers) {
    for (LinearGroup* group : layer.groups()) {
      for (LinearMember& member : group->members()) {
        if (!IsLoraTarget(*options.lora, member.name)) continue;
        group->AddAdapter(member, *options.lora, options.device);
        FillKaiming(member.lora_a, options.seed, LoraName(member.name, 'A'));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CausalLm::Impl::ReadAdapter() {
  ASSIGN_OR_RETURN(const LoraConfig saved, ReadAdapterConfig(options.adapter_dir));
  const std::string path = absl::StrCat(options.adapter_dir, "/adapter_config.json");
  if (saved.r != options.lora->r || saved.Scale() != options.lora->Scale()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": r ", saved.r, " and lora_alpha ", saved.alpha, saved.rslora ? " with rslora" : "", ", the job has r ",
        options.lora->r, " and lora_alpha ", options.lora->alpha, options.lora->rslora ? " with rslora" : ""));
  }
  const std::string file_path = absl::StrCat(options.adapter_dir, "/adapter_model.safetensors");
  ASSIGN_OR_RETURN(const auto file, safetensors::File::Open(file_path));
  size_t used = 0;
  for (DecoderLayer& layer : layers) {
    for (LinearGroup* group : layer.groups()) {
      for (LinearMember& member : group->members()) {
        if (!member.lora_a.defined()) continue;
        for (const auto& [matrix, tensor] : {std::pair('A', &member.lora_a), std::pair('B', &member.lora_b)}) {
          const std::string name = LoraName(member.name, matrix);
          const safetensors::Tensor* stored = file->Find(name);
          if (stored == nullptr) {
            return absl::InvalidArgumentError(absl::StrCat(
                file_path, ": tensor '", name, "' is missing; the adapter's target_modules must be the job's"));
          }
          RETURN_IF_ERROR(CopyInto(*stored, *tensor));
          ++used;
        }
      }
    }
  }
  if (used != file->tensors().size()) {
    return absl::InvalidArgumentError(absl::StrCat(file_path, ": holds ", file->tensors().size(),
                                                   " tensors, the job's ", "target_modules account for ", used));
  }
  return absl::OkStatus();
}

void CausalLm::Impl::ListParameters() {
  if (options.frozen) return;
  if (!options.lora) {
    for (const Slot& slot : Slots()) parameters.push_back({slot.name, *slot.tensor, slot.kind == Slot::kMatrix});
    return;
  }
  for (const DecoderLayer& layer : layers) {
    for (const LinearGroup* group : layer.groups()) {
      for (const LinearMember& member : group->members()) {
        if (!member.lora_a.defined()) continue;
        parameters.push_back({LoraName(member.name, 'A'), member.lora_a, true});
        parameters.push_back({LoraName(member.name, 'B'), member.lora_b, true});
      }
    }
  }
}

absl::StatusOr<std::unique_ptr<CausalLm>> CausalLm::Load(const std::string& dir, const ModelOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->dir = dir;
  impl->options = options;
  ASSIGN_OR_RETURN(impl->arch, ReadArchitecture(dir));
  ASSIGN_OR_RETURN(impl->attention,
                   ResolveAttention(options.attention, options.device, options.compute_dtype, impl->arch.head_dim));
  if (!options.adapter_dir.empty() && !options.lora) {
    return absl::InvalidArgumentError("pretrained_adapter is given, but lora is off");
  }
  absl::Status status;
  RETURN_IF_ERROR(CatchTorchStatus([&] {
    impl->Allocate();
    if (options.pretrained) {
      status = impl->ReadWeights();
    } else {
      impl->DrawWeights();
    }
    if (status.ok() && options.lora) status = impl->MakeAdapters();
    if (status.ok() && !options.adapter_dir.empty()) status = impl->ReadAdapter();
    if (status.ok()) impl->ListParameters();
  }));
  RETURN_IF_ERROR(status);
  return std::unique_ptr<CausalLm>(new CausalLm(std::move(impl)));
}

}  // namespace studio
