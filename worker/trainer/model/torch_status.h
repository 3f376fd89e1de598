// The one place where LibTorch's exceptions become Statuses.
//
//   ASSIGN_OR_RETURN(LossValue loss, CatchTorch([&] { return model.AccumulateGradients(batch, scale); }));
//
// Out of memory is ResourceExhausted (text of the allocator kept), anything else Internal. The exception is gone when
// the Status is returned: it may hold tensors alive, so that a retry would find no memory (pytorch#18853).
#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace studio {

absl::Status CatchTorchStatus(absl::FunctionRef<void()> body);

// `body` returns a value, or nothing.
template <typename F>
auto CatchTorch(F&& body) {
  using Result = std::invoke_result_t<F>;
  if constexpr (std::is_void_v<Result>) {
    return CatchTorchStatus(body);
  } else {
    std::optional<Result> result;
    absl::Status status = CatchTorchStatus([&] { result.emplace(body()); });
    if (!status.ok()) return absl::StatusOr<Result>(std::move(status));
    return absl::StatusOr<Result>(*std::move(result));
  }
}

}  // namespace studio
