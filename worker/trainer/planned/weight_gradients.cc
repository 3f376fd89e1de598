#include "worker/trainer/planned/weight_gradients.h"

#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>

#include "common/status/check.h"

namespace studio::planned {
namespace {

// `b` begins where `a` ends, in the same storage.
bool Follows(const at::Tensor& b, const at::Tensor& a) {
  return a.is_contiguous() && b.is_contiguous() && b.storage().is_alias_of(a.storage()) &&
         b.storage_offset() == a.storage_offset() + a.numel();
}

}  // namespace

at::Tensor GradOf(const at::Tensor& leaf) {
  if (!leaf.grad().defined()) leaf.mutable_grad() = at::zeros_like(leaf);
  return leaf.grad();
}

void AddProduct(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& y) {
  STUDIO_CHECK(grad.scalar_type() == x.scalar_type())
      << "a gradient of " << at::toString(grad.scalar_type()) << " from products of " << at::toString(x.scalar_type());
  grad.addmm_(x.t(), y);
}

void AddWeightGradients(const LinearGroup& group, const at::Tensor& dy, const at::Tensor& x) {
  const std::vector<LinearMember>& members = group.members();
  for (size_t i = 0; i < members.size();) {
    const int64_t begin = members[i].begin;
    const at::Tensor first = GradOf(members[i].weight);
    at::Tensor last = first;
    int64_t rows = members[i].out;
    for (++i; i < members.size() && Follows(GradOf(members[i].weight), last); ++i) {
      last = members[i].weight.grad();
      rows += members[i].out;
    }
    AddProduct(first.as_strided({rows, group.in()}, {group.in(), 1}), dy.narrow(1, begin, rows), x);
  }
  for (const LinearMember& member : members) {
    if (!member.bias.defined()) continue;
    GradOf(member.bias).add_(at::sum(dy.narrow(1, member.begin, member.out), {0}, /*keepdim=*/false, at::kFloat));
  }
}

}  // namespace studio::planned
