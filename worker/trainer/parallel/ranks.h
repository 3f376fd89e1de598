// The ranks of one attempt, and what they compute together: NCCL between CUDA devices, Gloo between host memories.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Ranks> ranks, Ranks::Join({.rank = 1, .size = 4, .address = "127.0.0.1", …},
//   device)); RETURN_IF_ERROR(ranks->Sum(flat_gradients, "the gradients"));
//
// One rank alone has no process group: every operation leaves what it is given as it is.
//
// Every rank must call the same operations in the same order. One that cannot go on ends its process: the others then
// fail with a peer loss (peer_loss.h), and nobody skips a collective (pytorch#44353: a rank that skips one hangs the
// rest, and Gloo cannot abort).
//
// Tensors may lie on the host, on CUDA or on MPS (through the host: there is no backend for it). Statuses, no
// exceptions. One thread at a time.
#pragma once

#include <ATen/core/TensorBody.h>
#include <c10/core/Device.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace studio {

// Where a rank finds the others.
struct Meeting {
  int rank = 0;
  int size = 1;
  // Of rank 0's store.
  std::string address = {};
  int port = 0;
  // Rank 0's: a socket that listens on that port already, so that no port is chosen twice. Without it, it is bound
  // here.
  std::optional<int> listen_fd = {};
  // All start at the same moment and meet before anything is loaded.
  absl::Duration join_timeout = absl::Minutes(5);
  // The longest that one rank may keep the others waiting: an evaluation, samples, a checkpoint's copy.
  absl::Duration timeout = absl::Minutes(30);
};

class Ranks {
 public:
  // InvalidArgument for an impossible place. Unimplemented where the device is CUDA and this trainer has no NCCL. A
  // peer loss where the others do not come.
  static absl::StatusOr<std::unique_ptr<Ranks>> Join(const Meeting& meeting, at::Device device);
  static std::unique_ptr<Ranks> Alone();
  ~Ranks();

  int rank() const { return rank_; }
  int size() const { return size_; }

  // `what` names the values in an error: "the gradients".
  // In place: the sum over all ranks. Contiguous; of the same shape and type everywhere.
  absl::Status Sum(const at::Tensor& tensor, const std::string& what);
  absl::StatusOr<double> Sum(double value, const std::string& what);
  // True where any rank says so.
  absl::StatusOr<bool> Any(bool value, const std::string& what);
  // In place: rank 0's values. Contiguous.
  absl::Status Broadcast(const at::Tensor& tensor, const std::string& what);
  // Every rank's, by rank. Contiguous; of the same shape and type everywhere.
  absl::StatusOr<std::vector<at::Tensor>> Gather(const at::Tensor& tensor, const std::string& what);

 private:
  struct Group;
  Ranks(int rank, int size, std::unique_ptr<Group> group);
  absl::Status Together(const std::string& what, absl::FunctionRef<void()> work);

  const int rank_;
  const int size_;
  // Null for one rank.
  const std::unique_ptr<Group> group_;
};

}  // namespace studio
