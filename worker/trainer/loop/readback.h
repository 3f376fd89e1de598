// Numbers on their way from the device: copied behind what is queued there, and waited for when they are read.
//
//   Readback readback({loss, grad_norm});      // queued; the host goes on
//   …
//   double loss = readback.Read()[0];          // waits
//
// Not thread-safe. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>
#include <c10/core/Event.h>

#include <optional>
#include <vector>

namespace studio {

class Readback {
 public:
  // fp64 scalars on one device, at least one.
  explicit Readback(const std::vector<at::Tensor>& numbers);
  std::vector<double> Read();

 private:
  at::Tensor host_;  // pinned where the device is another
  std::optional<c10::Event> copied_;
};

}  // namespace studio
