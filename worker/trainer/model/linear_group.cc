#include "worker/trainer/model/linear_group.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <utility>

#include "common/status/check.h"
#include "worker/trainer/model/counter_random.h"
#include "worker/trainer/model/dropout.h"

namespace studio {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

AdapterDropout DropoutOf(const LinearGroup& group, const Pass& pass) {
  return {.p = group.dropout(), .step_key = pass.device_mask_key, .ids = pass.mask_ids, .sites = group.AdapterSites()};
}

struct GroupFunction : torch::autograd::Function<GroupFunction> {
  // Saved are the input and, with adapters, its skinny product.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, LinearGroup* group, const PassPtr& pass,
                            at::TensorList leaves) {
    const LinearGroup::Compute& c = group->Prepare(x.scalar_type());
    at::Tensor y = at::linear(x, c.weight, c.bias);
    at::Tensor h;
    if (group->has_adapter()) {
      h = pass->training && group->dropout() > 0 ? DroppedLow(x, c.lora_a, DropoutOf(*group, *pass))
                                                 : at::mm(x, c.lora_a.t());
      y.addmm_(h, c.lora_bt);
    }
    ctx->save_for_backward({x, h});
    Holder& holder = HolderOf(ctx);
    holder.group = group;
    holder.pass = pass;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& h = saved[1];
    Holder& holder = HolderOf(ctx);
    LinearGroup& group = *holder.group;
    const LinearGroup::Compute& c = group.Prepare(x.scalar_type());
    const at::Tensor dy = grads[0].contiguous();
    const bool wants_dx = ctx->needs_input_grad(0);
    at::Tensor dx;
    if (wants_dx) dx = at::mm(dy, c.weight);
    variable_list result = {at::Tensor(), at::Tensor(), at::Tensor()};
    if (group.has_adapter()) {
      const at::Tensor dh = at::mm(dy, c.lora_bt.t());         // carries the scale
      const at::Tensor db = at::mm(dy.t(), h).to(at::kFloat);  // [out, rank]: the members' blocks are wanted
      at::Tensor da;                                           // [rank, in]
      if (holder.pass->training && group.dropout() > 0) {
        const AdapterDropout dropout = DropoutOf(group, *holder.pass);
        da = DroppedGradientOfA(dh, x, dropout);
        if (wants_dx) AddDroppedBackward(dh, c.lora_a, dropout, dx);
      } else {
        da = at::mm(dh.t(), x);
        if (wants_dx) dx.addmm_(dh, c.lora_a);
      }
      da = da.to(at::kFloat);
      int64_t row = 0;
      for (const LinearMember& member : group.members()) {
        if (!member.lora_a.defined()) continue;
        const int64_t r = member.lora_a.size(0);
        result.push_back(da.narrow(0, row, r));
        result.push_back(db.narrow(0, member.begin, member.out).narrow(1, row, r) * group.scale());
        row += r;
      }
    } else if (group.trained()) {
      const at::Tensor dw = at::mm(dy.t(), x).to(at::kFloat);
      for (const LinearMember& member : group.members()) {
        result.push_back(dw.narrow(0, member.begin, member.out));
        if (member.bias.defined()) {
          result.push_back(at::sum(dy.narrow(1, member.begin, member.out), {0}, false, at::kFloat));
        }
      }
    }
    result[0] = dx;
    return result;
  }

  struct Holder : torch::CustomClassHolder {
    LinearGroup* group = nullptr;  // lives as long as the model
    PassPtr pass;
  };
  static Holder& HolderOf(AutogradContext* ctx) {
    auto& value = ctx->saved_data["group"];
    if (!value.isCapsule()) value = at::IValue::make_capsule(c10::make_intrusive<Holder>());
    return *static_cast<Holder*>(value.toCapsule().get());
  }
};

}  // namespace

LinearGroup::LinearGroup(std::vector<LinearMember> members, int64_t in, bool has_bias)
    : members_(std::move(members)), in_(in), has_bias_(has_bias) {
  for (LinearMember& member : members_) {
    member.begin = out_;
    out_ += member.out;
  }
}

void LinearGroup::Allocate(const ModelOptions& options, bool trained, int64_t border) {
  // NOLINTNEXTLINE(bugprone-infinite-loop): the check ends the program
  STUDIO_CHECK(border == 0 || !trained) << "a matrix that is trained has no border";
  trained_ = trained;
  border_ = border;
  const auto type = at::TensorOptions(options.device).dtype(trained ? options.trained_dtype : options.base_dtype);
  // What no adapter fills stays zero and adds nothing.
  bordered_ = border > 0 ? at::zeros({out_ + border, in_ + border}, type) : at::empty({out_, in_}, type);
  weight_ = bordered_.narrow(0, 0, out_).narrow(1, 0, in_);
  if (has_bias_) bias_ = at::empty({out_}, type);
  for (LinearMember& member : members_) {
    member.weight = weight_.narrow(0, member.begin, member.out).detach().requires_grad_(trained);
    if (has_bias_) member.bias = bias_.narrow(0, member.begin, member.out).detach().requires_grad_(trained);
  }
}

void LinearGroup::AddAdapter(LinearMember& member, const LoraConfig& config, at::Device device) {
  const auto type = at::TensorOptions(device).dtype(at::kFloat);
  member.lora_a = at::zeros({config.r, in_}, type).requires_grad_(true);
  member.lora_b = at::zeros({member.out, config.r}, type).requires_grad_(true);
  rank_ += config.r;
  STUDIO_CHECK(border_ == 0 || rank_ <= border_) << member.name << ": no room for its adapter";
  scale_ = config.Scale();
  dropout_ = config.dropout;
}

void LinearGroup::MoveTo(at::Device device) {
  at::NoGradGuard no_grad;
  bordered_ = bordered_.to(device);
  weight_ = bordered_.narrow(0, 0, out_).narrow(1, 0, in_);
  if (bias_.defined()) bias_ = bias_.to(device);
  for (LinearMember& member : members_) {
    member.weight.set_data(weight_.narrow(0, member.begin, member.out));
    if (member.bias.defined()) member.bias.set_data(bias_.narrow(0, member.begin, member.out));
    if (member.lora_a.defined()) {
      member.lora_a.set_data(member.lora_a.to(device));
      member.lora_b.set_data(member.lora_b.to(device));
    }
  }
  compute_ready_ = false;
}

std::vector<at::Tensor> LinearGroup::Leaves() const {
  std::vector<at::Tensor> leaves;
  for (const LinearMember& member : members_) {
    if (member.lora_a.defined()) {
      leaves.push_back(member.lora_a);
      leaves.push_back(member.lora_b);
    } else if (trained_) {
      leaves.push_back(member.weight);
      if (member.bias.defined()) leaves.push_back(member.bias);
    }
  }
  return leaves;
}

std::vector<uint64_t> LinearGroup::AdapterSites() const {
  std::vector<uint64_t> sites;
  for (const LinearMember& member : members_) {
    if (member.lora_a.defined()) sites.push_back(NameHash(member.name));
  }
  return sites;
}

// In-place changes count up; their sum changes whenever one of them does.
uint64_t LinearGroup::Version() const {
  uint64_t version = 0;
  for (const at::Tensor& leaf : Leaves()) version += leaf._version();
  return version;
}

const LinearGroup::Compute& LinearGroup::Prepare(at::ScalarType dtype) {
  at::NoGradGuard no_grad;
  const uint64_t version = Version();
  const bool stale = !compute_ready_ || version != compute_version_;
  // A frozen weight of another type is converted at each use: a copy would undo the saving.
  const bool keep = trained_ || weight_.scalar_type() == dtype;
  if (stale || !keep || !compute_.weight.defined() || compute_.weight.scalar_type() != dtype) {
    compute_.weight = weight_.detach().to(dtype);
    if (bias_.defined()) compute_.bias = bias_.detach().to(dtype);
  }
  if (rank_ > 0 && AdaptersStale(dtype)) {
    for (const auto& [from, to, scale] : AdapterCopies(dtype)) to.copy_(scale == 1 ? from : from * scale);
  }
  compute_ready_ = true;
  compute_version_ = version;
  return compute_;
}

bool LinearGroup::AdaptersStale(at::ScalarType dtype) const {
  return !compute_ready_ || Version() != compute_version_ || compute_.lora_a.scalar_type() != dtype;
}

bool LinearGroup::TakeStaleAdapters(at::ScalarType dtype) {
  STUDIO_CHECK(border_ > 0 || rank_ == 0) << "adapters outside of a border are copied by Prepare";
  if (rank_ == 0 || !AdaptersStale(dtype)) return false;
  compute_.weight = weight_.detach();
  if (bias_.defined()) compute_.bias = bias_.detach();
  compute_ready_ = true;
  compute_version_ = Version();
  return true;
}

// The compute copies are made anew where they are no views of the border.
std::vector<LinearGroup::AdapterCopy> LinearGroup::AdapterCopies(at::ScalarType dtype) {
  if (border_ > 0 && bordered_.scalar_type() == dtype) {
    compute_.lora_a = bordered_.narrow(0, out_, rank_).narrow(1, 0, in_);
    compute_.lora_bt = bordered_.narrow(0, 0, out_).narrow(1, in_, rank_).t();
  } else {
    const auto type = weight_.options().dtype(dtype);
    compute_.lora_a = at::empty({rank_, in_}, type);
    compute_.lora_bt = at::zeros({rank_, out_}, type);
  }
  std::vector<AdapterCopy> copies;
  int64_t row = 0;
  for (const LinearMember& member : members_) {
    if (!member.lora_a.defined()) continue;
    const int64_t r = member.lora_a.size(0);
    copies.push_back({member.lora_a.detach(), compute_.lora_a.narrow(0, row, r)});
    copies.push_back(
        {member.lora_b.detach(), compute_.lora_bt.narrow(0, row, r).narrow(1, member.begin, member.out).t(), scale_});
    row += r;
  }
  return copies;
}

at::Tensor LinearGroup::Forward(const at::Tensor& x, const PassPtr& pass) {
  const std::vector<at::Tensor> leaves = Leaves();
  return GroupFunction::apply(x, this, pass, at::TensorList(leaves));
}

}  // namespace studio
