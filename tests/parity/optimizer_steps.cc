// Steps of our AdamW8bit on a host, for tests/parity/adamw8bit_test.py: the same numbers go through bitsandbytes there.
//
//   STUDIO_BITSANDBYTES=… optimizer_steps IN.safetensors OUT.safetensors
//
// IN: fp32 "w" [...] and the gradients of each step, "g0", "g1", … OUT: the optimizer's state, bytes as fp32 numbers.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/safetensors/reader.h"
#include "common/safetensors/writer.h"
#include "common/status/macros.h"
#include "worker/trainer/optim/adamw8bit.h"

namespace studio {
namespace {

at::Tensor Read(const safetensors::Tensor& from) {
  const at::Tensor tensor = at::empty(at::IntArrayRef(from.info.shape), at::kFloat);
  std::memcpy(tensor.mutable_data_ptr(), from.data.data(), from.data.size());
  return tensor;
}

absl::Status Run(const std::string& in, const std::string& out) {
  ASSIGN_OR_RETURN(const std::unique_ptr<safetensors::File> file, safetensors::File::Open(in));
  const safetensors::Tensor* const start = file->Find("w");
  if (start == nullptr) return absl::InvalidArgumentError(absl::StrCat(in, " has no w"));
  const at::Tensor weight = Read(*start).set_requires_grad(true);
  ASSIGN_OR_RETURN(std::unique_ptr<BlockwiseAdam> adam, BlockwiseAdam::Load(at::kCPU));
  AdamW8bit optimizer({{"w", weight, true}}, {0.9, 0.95, 1e-8, 0.1}, std::move(adam));
  for (int step = 0;; ++step) {
    const safetensors::Tensor* const grad = file->Find(absl::StrCat("g", step));
    if (grad == nullptr) break;
    weight.mutable_grad().copy_(Read(*grad));
    optimizer.Step(0.01);
  }
  Optimizer::NamedTensors state = optimizer.State();
  std::vector<safetensors::TensorSpec> specs;
  for (auto& [name, tensor] : state) {
    tensor = tensor.to(at::kFloat).contiguous();
    specs.push_back({name, safetensors::Dtype::kF32, tensor.sizes().vec()});
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<safetensors::Writer> writer, safetensors::Writer::Create(out, specs));
  for (const auto& [name, tensor] : state) {
    RETURN_IF_ERROR(writer->Append({static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()}));
  }
  return writer->Finish();
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "optimizer_steps IN.safetensors OUT.safetensors" << std::endl;
    return 2;
  }
  const absl::Status status = studio::Run(argv[1], argv[2]);
  if (!status.ok()) std::cerr << status.ToString() << std::endl;
  return status.ok() ? 0 : 1;
}
