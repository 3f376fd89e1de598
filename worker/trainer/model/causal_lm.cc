#include "worker/trainer/model/causal_lm.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include <utility>

#include "worker/trainer/model/causal_lm_impl.h"
#include "worker/trainer/model/decoder_parts.h"
#include "worker/trainer/model/lora.h"

namespace studio {

CausalLm::CausalLm(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CausalLm::~CausalLm() = default;

const Architecture& CausalLm::architecture() const { return impl_->arch; }
const ModelOptions& CausalLm::options() const { return impl_->options; }
const std::string& CausalLm::dir() const { return impl_->dir; }
std::vector<NamedParameter>& CausalLm::TrainableParameters() { return impl_->parameters; }
void CausalLm::set_seed(uint64_t seed) { impl_->options.seed = seed; }
void CausalLm::set_gradient_checkpointing(bool on) { impl_->options.gradient_checkpointing = on; }
void CausalLm::set_loss_chunk_rows(int64_t rows) { impl_->options.loss_chunk_rows = rows; }

DecoderParts CausalLm::Parts() {
  return {impl_->arch, impl_->embedding, impl_->final_norm, impl_->head, impl_->layers};
}

PassPtr CausalLm::TrainingPass(const Batch& batch) { return impl_->MakePass(batch, /*training=*/true); }

at::Tensor CausalLm::Hidden(const Batch& batch) {
  return impl_->Run(batch, impl_->MakePass(batch, /*training=*/false), at::Tensor());
}

at::Tensor CausalLm::Logits(const Batch& batch) {
  at::NoGradGuard no_grad;
  return impl_->HeadLogits(Hidden(batch));
}

LossTensor CausalLm::LossSum(const Batch& batch) { return impl_->Loss(batch, /*training=*/true); }

LossValue CausalLm::Evaluate(const Batch& batch) {
  at::NoGradGuard no_grad;
  const LossTensor loss = impl_->Loss(batch, /*training=*/false);
  return {loss.loss_sum.item<double>(), loss.valid_tokens};
}

LossValue CausalLm::AccumulateGradients(const Batch& batch, double scale) {
  at::AutoGradMode grad(true);
  const LossTensor loss = LossSum(batch);
  const LossValue value = {loss.loss_sum.item<double>(), loss.valid_tokens};
  if (loss.valid_tokens > 0) (loss.loss_sum * scale).backward();
  return value;
}

std::vector<CausalLm::Weight> CausalLm::Weights(at::ScalarType dtype, bool merged) const {
  std::vector<Weight> weights;
  for (const Impl::Slot& slot : impl_->Slots()) {
    weights.push_back({slot.name, slot.tensor->sizes().vec(), [slot, dtype, merged] {
                         at::NoGradGuard no_grad;
                         at::Tensor value = slot.tensor->detach();
                         if (merged && slot.member != nullptr && slot.member->lora_a.defined()) {
                           value = at::addmm(value.to(at::kFloat), slot.member->lora_b, slot.member->lora_a, 1,
                                             slot.group->scale());
                         }
                         return value.to(at::kCPU, dtype).contiguous();
                       }});
  }
  return weights;
}

std::vector<NamedTensor> CausalLm::Adapter() const {
  std::vector<NamedTensor> adapter;
  for (const DecoderLayer& layer : impl_->layers) {
    for (const LinearGroup* group : layer.groups()) {
      for (const LinearMember& member : group->members()) {
        if (!member.lora_a.defined()) continue;
        adapter.push_back({LoraName(member.name, 'A'), member.lora_a});
        adapter.push_back({LoraName(member.name, 'B'), member.lora_b});
      }
    }
  }
  return adapter;
}

void CausalLm::MoveTo(at::Device device) {
  at::NoGradGuard no_grad;
  impl_->options.device = device;
  impl_->embedding.set_data(impl_->embedding.to(device));
  impl_->final_norm.set_data(impl_->final_norm.to(device));
  if (!impl_->arch.tie_word_embeddings) impl_->head.set_data(impl_->head.to(device));
  for (DecoderLayer& layer : impl_->layers) {
    layer.input_norm.set_data(layer.input_norm.to(device));
    layer.post_attention_norm.set_data(layer.post_attention_norm.to(device));
    for (LinearGroup* group : layer.groups()) group->MoveTo(device);
  }
  impl_->cosine_table = at::Tensor();
  impl_->sine_table = at::Tensor();
  // Asked for by name where it was loaded, FlashAttention does not come along to a host.
  impl_->attention =
      ResolveAttention(impl_->options.attention, device, impl_->options.compute_dtype, impl_->arch.head_dim)
          .value_or(Attention::kSdpa);
}

}  // namespace studio
