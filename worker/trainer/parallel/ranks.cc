#include "worker/trainer/parallel/ranks.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>

#include <chrono>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/trainer/libtorch/store.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/parallel/nccl_backend.h"
#include "worker/trainer/parallel/peer_loss.h"

namespace studio {
namespace {

using BackendType = c10d::ProcessGroup::BackendType;

std::chrono::milliseconds ToChrono(absl::Duration duration) { return absl::ToChronoMilliseconds(duration); }

c10::intrusive_ptr<c10d::Store> MakeStore(const Meeting& meeting) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(meeting.port);
  options.isServer = meeting.rank == 0;
  options.numWorkers = meeting.size;
  options.timeout = ToChrono(meeting.join_timeout);
  options.useLibUV = libtorch::kLibuvStoreTakesSocket;
  if (meeting.rank == 0) options.masterListenFd = meeting.listen_fd;
  return c10::make_intrusive<c10d::TCPStore>(meeting.address, options);
}

c10::intrusive_ptr<c10d::Backend> MakeGloo(const c10::intrusive_ptr<c10d::Store>& store, const Meeting& meeting) {
  auto options = c10d::ProcessGroupGloo::Options::create(ToChrono(meeting.timeout));
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(meeting.address));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, meeting.rank, meeting.size, options);
}

// Calls `work` with the tensor, or with a copy on the host where no backend knows the tensor's device.
void OnAKnownDevice(const at::Tensor& tensor, absl::FunctionRef<void(at::Tensor)> work) {
  if (!tensor.is_mps()) return work(tensor);
  const at::Tensor host = tensor.cpu();
  work(host);
  tensor.copy_(host);
}

}  // namespace

struct Ranks::Group {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
};

Ranks::Ranks(int rank, int size, std::unique_ptr<Group> group) : rank_(rank), size_(size), group_(std::move(group)) {}
Ranks::~Ranks() = default;

std::unique_ptr<Ranks> Ranks::Alone() { return std::unique_ptr<Ranks>(new Ranks(0, 1, nullptr)); }

absl::StatusOr<std::unique_ptr<Ranks>> Ranks::Join(const Meeting& meeting, at::Device device) {
  if (meeting.size < 1 || meeting.rank < 0 || meeting.rank >= meeting.size) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", meeting.rank, " of world_size ", meeting.size, ": ranks count from 0 to world_size - 1"));
  }
  if (meeting.size == 1) return Alone();
  if (meeting.address.empty() || meeting.port <= 0) {
    return absl::InvalidArgumentError(absl::StrCat("rendezvous: world_size ", meeting.size,
                                                   " needs the address and port of rank 0's store, got \"",
                                                   meeting.address, "\" and ", meeting.port));
  }
  if (device.is_cuda()) RETURN_IF_ERROR(CheckNccl());

  auto group = std::make_unique<Group>();
  const absl::Status joined = CatchTorch([&] {
    const c10::intrusive_ptr<c10d::Store> store = MakeStore(meeting);
    group->group = c10::make_intrusive<c10d::ProcessGroup>(store, meeting.rank, meeting.size);
    group->group->setBackend(c10::DeviceType::CPU, BackendType::GLOO, MakeGloo(store, meeting));
    group->group->setDefaultBackend(BackendType::GLOO);
    if (device.is_cuda()) {
      group->group->setBackend(c10::DeviceType::CUDA, BackendType::NCCL,
                               MakeNccl(store, meeting.rank, meeting.size, meeting.timeout, device));
      group->group->setDefaultBackend(BackendType::NCCL);
    }
  });
  if (!joined.ok()) {
    return PeerLossError(absl::StrCat("rank ", meeting.rank, " of ", meeting.size, " did not meet the others at ",
                                      meeting.address, ":", meeting.port, " within ",
                                      absl::FormatDuration(meeting.join_timeout), ": ", joined.message()));
  }
  return std::unique_ptr<Ranks>(new Ranks(meeting.rank, meeting.size, std::move(group)));
}

// Whatever goes wrong between ranks is the loss of a peer, but for memory, which is this rank's own.
absl::Status Ranks::Together(const std::string& what, absl::FunctionRef<void()> work) {
  const absl::Status status = CatchTorch([&] {
    at::NoGradGuard no_grad;
    work();
  });
  if (status.ok() || absl::IsResourceExhausted(status)) return status;
  return PeerLossError(
      absl::StrCat("rank ", rank_, " of ", size_, " lost the others while exchanging ", what, ": ", status.message()));
}

absl::Status Ranks::Sum(const at::Tensor& tensor, const std::string& what) {
  if (group_ == nullptr) return absl::OkStatus();
  return Together(what, [&] {
    OnAKnownDevice(tensor, [&](at::Tensor known) {
      std::vector<at::Tensor> tensors = {std::move(known)};
      group_->group->allreduce(tensors)->wait();
    });
  });
}

absl::StatusOr<double> Ranks::Sum(double value, const std::string& what) {
  if (group_ == nullptr) return value;
  const at::Tensor number = at::full({1}, value, at::kDouble);
  RETURN_IF_ERROR(Sum(number, what));
  return number.const_data_ptr<double>()[0];
}

absl::StatusOr<bool> Ranks::Any(bool value, const std::string& what) {
  ASSIGN_OR_RETURN(const double votes, Sum(value ? 1.0 : 0.0, what));
  return votes > 0;
}

absl::Status Ranks::Broadcast(const at::Tensor& tensor, const std::string& what) {
  if (group_ == nullptr) return absl::OkStatus();
  return Together(what, [&] {
    OnAKnownDevice(tensor, [&](at::Tensor known) {
      std::vector<at::Tensor> tensors = {std::move(known)};
      group_->group->broadcast(tensors)->wait();
    });
  });
}

absl::StatusOr<std::vector<at::Tensor>> Ranks::Gather(const at::Tensor& tensor, const std::string& what) {
  if (group_ == nullptr) return std::vector<at::Tensor>{tensor};
  std::vector<std::vector<at::Tensor>> parts(1);
  RETURN_IF_ERROR(Together(what, [&] {
    std::vector<at::Tensor> mine = {tensor.is_mps() ? tensor.cpu() : tensor};
    for (int i = 0; i < size_; ++i) parts[0].push_back(at::empty_like(mine[0]));
    group_->group->allgather(parts, mine)->wait();
    for (at::Tensor& part : parts[0]) part = part.to(tensor.device());
  }));
  return std::move(parts[0]);
}

}  // namespace studio
