// Products over a group of linear layers whose adapters lie in the border of its frozen matrix,
//
//        W' = [[W, sB], [A, 0]]      X' = [X | X Aᵀ]      dY' = [dY | dY sB]
//
// so that Y = X' W'[:out]ᵀ and dX = dY' W'[:, :in] are one product each (LoRA, arXiv:2106.09685: Y = X Wᵀ + s X Aᵀ Bᵀ):
// no pass over Y or dX adds anything. A group without adapters has no border, and the same formulas hold.
//
// Matrices [T, …] may be views of wider ones. Outputs are written in place. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <vector>

#include "worker/trainer/model/linear_group.h"
#include "worker/trainer/planned/arena.h"

namespace studio::planned {

class Bordered {
 public:
  // The group's border must hold its adapters' present values (LinearGroup::Prepare). Both outlive this.
  explicit Bordered(const LinearGroup& group);

  // low [T, border] = x [T, in] Aᵀ.
  void Low(const at::Tensor& x, at::Tensor low) const;
  // y [T, out] = x' [T, in + border] W'ᵀ + bias.
  void Forward(const at::Tensor& bordered_x, at::Tensor y) const;
  // stream [T, out] += the same.
  void AddForward(const at::Tensor& bordered_x, const at::Tensor& stream) const;
  // The same where the low product does not lie beside x: two passes over the stream.
  void AddForward(const at::Tensor& x, const at::Tensor& low, const at::Tensor& stream) const;

  // d_low [T, border] = dy [T, out] sB.
  void LowBackward(const at::Tensor& dy, at::Tensor d_low) const;
  // dx [T, in] = dy' [T, out + border] W'.
  void Backward(const at::Tensor& bordered_dy, at::Tensor dx) const;
  // The same without what passes through the adapters, whose part of dx may be dropped first: dy [T, out] W.
  void BackwardOfFrozen(const at::Tensor& dy, at::Tensor dx) const;
  // Those of the members that have an adapter, in order.
  const std::vector<const LinearMember*>& adapters() const { return adapters_; }
  double scale() const { return group_.scale(); }
  // [rank, in]: A of all members below each other.
  at::Tensor A() const { return a_.narrow(0, 0, group_.rank()); }

  // What tells the members' dropout apart (model/dropout.h).
  const std::vector<uint64_t>& sites() const { return sites_; }

  int64_t rank() const { return group_.rank(); }
  bool has_adapter() const { return group_.has_adapter(); }
  int64_t in() const { return group_.in(); }
  int64_t out() const { return group_.out(); }
  int64_t border() const { return group_.border(); }

 private:
  const LinearGroup& group_;
  at::Tensor a_;         // [border, in]
  at::Tensor b_;         // [out, border]
  at::Tensor forward_;   // [in + border, out]
  at::Tensor backward_;  // [out + border, in]
  std::vector<uint64_t> sites_;
  std::vector<const LinearMember*> adapters_;
};

}  // namespace studio::planned
