#include "worker/trainer/kernels/testing/conformance.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>

#include <limits>

#include "worker/trainer/model/counter_random.h"

namespace studio::kernels {
namespace {

constexpr double kBorder = 7;

// The whole rows of a view made by NormalRows or EmptyRows.
at::Tensor Border(const at::Tensor& rows) {
  const int64_t width = rows.size(1), stride = rows.stride(0);
  return rows.as_strided({rows.size(0), stride - width}, {stride, 1}, rows.storage_offset() + width);
}

}  // namespace

at::Tensor Exact(const at::Tensor& x) { return x.detach().to(at::kCPU, at::kDouble); }
at::Tensor ExactLeaf(const at::Tensor& x) { return Exact(x).clone().requires_grad_(true); }

AdapterDropout SomeDropout(int64_t rows, int64_t adapters, double p, at::Device device) {
  if (adapters == 0) return {};
  const auto type = at::TensorOptions(at::kLong);
  AdapterDropout dropout{.p = p,
                         .step_key = at::full({}, static_cast<int64_t>(0x9123456789abcdefull), type).to(device),
                         .ids = (at::arange(rows, type) + (int64_t{7} << 32)).to(device),
                         .sites = {}};
  const char* const names[] = {"q_proj", "k_proj", "v_proj"};
  for (int64_t i = 0; i < adapters; ++i) dropout.sites.push_back(NameHash(names[i]));
  return dropout;
}

at::Tensor ExactDropped(const at::Tensor& x, const AdapterDropout& dropout, size_t which) {
  if (!dropout.ids.defined()) return Exact(x);
  AdapterDropout here = dropout;
  here.ids = here.ids.cpu();
  here.step_key = here.step_key.cpu();
  return Exact(x).masked_fill(DropMask(x.size(1), here, which), 0) * dropout.Kept();
}

at::Tensor OperationsTest::Normal(at::IntArrayRef sizes) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(1000 + draws_++);
  const at::Tensor exact = at::randn(sizes, generator, at::kDouble);  // lint: allowed, a generator of its own
  return exact.to(GetParam().type).to(GetParam().device);
}

at::Tensor OperationsTest::EmptyRows(int64_t rows, int64_t width, int64_t border) {
  const auto options = at::TensorOptions().dtype(GetParam().type).device(GetParam().device);
  at::Tensor view = at::full({rows, width + border}, kBorder, options).narrow(1, 0, width);
  view.fill_(std::numeric_limits<double>::quiet_NaN());
  return view;
}

at::Tensor OperationsTest::NormalRows(int64_t rows, int64_t width, int64_t border) {
  at::Tensor view = EmptyRows(rows, width, border);
  view.copy_(Normal({rows, width}));
  return view;
}

at::Tensor OperationsTest::Floats(at::IntArrayRef sizes, double value) {
  return at::full(sizes, value, at::TensorOptions().dtype(at::kFloat).device(GetParam().device));
}

void OperationsTest::ExpectClose(const at::Tensor& x, const at::Tensor& reference, double wide, double narrow,
                                 const char* what) {
  const at::Tensor exact = Exact(reference);
  ASSERT_EQ(x.sizes(), exact.sizes()) << what;
  const double scale = exact.norm().item<double>();
  const double error = (Exact(x) - exact).norm().item<double>() / (scale > 0 ? scale : 1);
  EXPECT_LE(error, bf16() ? narrow : wide) << what;
}

void OperationsTest::ExpectBorderKept(const at::Tensor& rows, const char* what) {
  EXPECT_TRUE((Border(rows) == kBorder).all().item<bool>()) << what;
}

}  // namespace studio::kernels
