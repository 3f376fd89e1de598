#include "worker/trainer/model/dropout.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <vector>

#include "worker/trainer/model/counter_random.h"

namespace studio {
namespace {

// 1 / (1 - p) or 0 for each (token, channel), fp32 on the CPU.
at::Tensor Mask(int64_t channels, double p, uint64_t site_key, const at::Tensor& mask_ids) {
  const at::Tensor ids = mask_ids.cpu().contiguous();
  const at::Tensor mask = at::empty({ids.size(0), channels}, at::TensorOptions(at::kFloat));
  const int64_t* id = ids.data_ptr<int64_t>();
  float* out = mask.data_ptr<float>();
  // Compared as integers: no rounding anywhere.
  const uint64_t threshold = static_cast<uint64_t>(p * 4294967296.0);
  const float kept = static_cast<float>(1.0 / (1.0 - p));
  at::parallel_for(0, ids.size(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const uint64_t key = RandomKey(site_key, static_cast<uint64_t>(id[t]));
      for (int64_t c = 0; c < channels; ++c) {
        out[t * channels + c] = (RandomBits(key, static_cast<uint64_t>(c)) >> 32) < threshold ? 0.0f : kept;
      }
    }
  });
  return mask;
}

uint64_t SiteKey(const Pass& pass, const LinearMember& member) { return RandomKey(pass.mask_key, member.name); }

}  // namespace

at::Tensor Dropout(const at::Tensor& x, double p, uint64_t site_key, const at::Tensor& mask_ids) {
  return x * Mask(x.size(1), p, site_key, mask_ids).to(x.options());
}

at::Tensor DroppedProduct(const at::Tensor& x, const LinearGroup& group, const LinearGroup::Compute& compute,
                          const Pass& pass) {
  std::vector<at::Tensor> parts;
  int64_t row = 0;
  for (const LinearMember& member : group.members()) {
    if (!member.lora_a.defined()) continue;
    const int64_t r = member.lora_a.size(0);
    const at::Tensor dropped = Dropout(x, group.dropout(), SiteKey(pass, member), pass.mask_ids);
    parts.push_back(at::mm(dropped, compute.lora_a.narrow(0, row, r).t()));
    row += r;
  }
  return at::cat(parts, 1);
}

at::Tensor DroppedBackward(const at::Tensor& x, const at::Tensor& dh, const LinearGroup& group,
                           const LinearGroup::Compute& compute, const Pass& pass, at::Tensor& dx) {
  std::vector<at::Tensor> parts;
  int64_t row = 0;
  for (const LinearMember& member : group.members()) {
    if (!member.lora_a.defined()) continue;
    const int64_t r = member.lora_a.size(0);
    const at::Tensor part = dh.narrow(1, row, r);
    const uint64_t key = SiteKey(pass, member);
    parts.push_back(at::mm(part.t(), Dropout(x, group.dropout(), key, pass.mask_ids)));
    if (dx.defined()) {
      dx.add_(Dropout(at::mm(part, compute.lora_a.narrow(0, row, r)), group.dropout(), key, pass.mask_ids));
    }
    row += r;
  }
  return at::cat(parts, 0);
}

}  // namespace studio
