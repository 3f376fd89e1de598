#include "worker/trainer/parallel/sync.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status/macros.h"
#include "worker/trainer/model/torch_status.h"

namespace studio {
namespace {

constexpr int kMaxDims = 8;

// Type, number of dimensions, then the dimensions: what every rank must know before the values can be exchanged.
struct Header {
  int64_t type = 0;
  int64_t dims = 0;
  int64_t sizes[kMaxDims] = {};

  bool Fits(const Header& other) const {
    return type == other.type && dims == other.dims && std::equal(sizes + 1, sizes + kMaxDims, other.sizes + 1);
  }
  std::string Text() const {
    return absl::StrCat(c10::toString(static_cast<at::ScalarType>(type)), " [",
                        absl::StrJoin(sizes, sizes + std::min<int64_t>(dims, kMaxDims), ", "), "]");
  }
};
constexpr int64_t kHeaderNumbers = sizeof(Header) / sizeof(int64_t);

absl::StatusOr<std::vector<Header>> ExchangeHeaders(const at::Tensor& tensor, Ranks& ranks) {
  Header mine;
  mine.type = static_cast<int64_t>(tensor.scalar_type());
  mine.dims = tensor.dim();
  for (int64_t d = 0; d < std::min<int64_t>(tensor.dim(), kMaxDims); ++d) mine.sizes[d] = tensor.size(d);
  const at::Tensor line = at::empty({kHeaderNumbers}, at::kLong);
  std::memcpy(line.mutable_data_ptr(), &mine, sizeof(mine));
  ASSIGN_OR_RETURN(const std::vector<at::Tensor> lines, ranks.Gather(line, "shapes"));
  std::vector<Header> headers(lines.size());
  for (size_t r = 0; r < lines.size(); ++r) std::memcpy(&headers[r], lines[r].const_data_ptr(), sizeof(Header));
  return headers;
}

// Every rank sees the same headers, so all of them refuse, or none does.
absl::Status CheckHeaders(const std::vector<Header>& headers) {
  for (size_t r = 0; r < headers.size(); ++r) {
    if (headers[r].dims < 1 || headers[r].dims > kMaxDims) {
      return absl::InvalidArgumentError(absl::StrCat("SyncAcrossProcesses: rank ", r, " gave a tensor of ",
                                                     headers[r].dims, " dimensions; 1 to ", kMaxDims,
                                                     " can be joined along dimension 0"));
    }
    if (!headers[r].Fits(headers[0])) {
      return absl::InvalidArgumentError(absl::StrCat("SyncAcrossProcesses: rank ", r, " gave ", headers[r].Text(),
                                                     ", rank 0 ", headers[0].Text(), "; only dimension 0 may differ"));
    }
  }
  return absl::OkStatus();
}

template <typename T>
absl::StatusOr<std::vector<T>> SyncArray(std::span<const T> array, at::ScalarType type, Ranks& ranks) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(array.size())}, type);
  std::copy(array.begin(), array.end(), tensor.mutable_data_ptr<T>());
  ASSIGN_OR_RETURN(tensor, SyncAcrossProcesses(tensor, ranks));
  const T* const first = tensor.const_data_ptr<T>();
  return std::vector<T>(first, first + tensor.numel());
}

}  // namespace

absl::StatusOr<at::Tensor> SyncAcrossProcesses(const at::Tensor& tensor, Ranks& ranks) {
  if (ranks.size() == 1) return tensor;
  ASSIGN_OR_RETURN(const std::vector<Header> headers, ExchangeHeaders(tensor, ranks));
  RETURN_IF_ERROR(CheckHeaders(headers));
  int64_t most = 0;
  for (const Header& header : headers) most = std::max(most, header.sizes[0]);

  // As bytes, because backends differ in the types that they know; padded, because they gather equal sizes.
  absl::StatusOr<at::Tensor> padded = CatchTorch([&] {
    at::NoGradGuard no_grad;
    std::vector<int64_t> sizes = tensor.sizes().vec();
    sizes[0] = most;
    at::Tensor room = at::zeros(sizes, tensor.options().requires_grad(false));
    room.narrow(0, 0, tensor.size(0)).copy_(tensor);
    return room;
  });
  RETURN_IF_ERROR(padded.status());
  if (padded->numel() == 0) return padded;
  ASSIGN_OR_RETURN(const std::vector<at::Tensor> parts,
                   ranks.Gather(padded->view({-1}).view(at::kByte), "a tensor's parts"));
  return CatchTorch([&] {
    std::vector<at::Tensor> whole;
    for (size_t r = 0; r < parts.size(); ++r) {
      whole.push_back(parts[r].view(tensor.scalar_type()).view(padded->sizes()).narrow(0, 0, headers[r].sizes[0]));
    }
    return at::cat(whole, 0);
  });
}

absl::StatusOr<std::vector<double>> SyncAcrossProcesses(std::span<const double> array, Ranks& ranks) {
  return SyncArray(array, at::kDouble, ranks);
}

absl::StatusOr<std::vector<int64_t>> SyncAcrossProcesses(std::span<const int64_t> array, Ranks& ranks) {
  return SyncArray(array, at::kLong, ranks);
}

}  // namespace studio
