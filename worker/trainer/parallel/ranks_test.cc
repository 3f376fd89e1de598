// Ranks as threads of one process: Gloo's sockets, the store and the collectives are the real ones.
#include "worker/trainer/parallel/ranks.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <functional>
#include <thread>

#include "common/status/macros.h"
#include "common/status/testing.h"
#include "worker/trainer/parallel/peer_loss.h"
#include "worker/trainer/parallel/sync.h"

namespace studio {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

// A socket that listens on a free port of the loopback.
int Listen(int& port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(listen(fd, 16), 0);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  port = ntohs(address.sin_port);
  return fd;
}

// Runs `body` on every rank and returns what each said.
std::vector<absl::Status> OnRanks(int size, const std::function<absl::Status(Ranks&)>& body) {
  int port = 0;
  const int fd = Listen(port);
  std::vector<absl::Status> statuses(size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      Meeting meeting{.rank = rank, .size = size, .address = "127.0.0.1", .port = port};
      meeting.timeout = absl::Seconds(60);
      if (rank == 0) meeting.listen_fd = fd;
      absl::StatusOr<std::unique_ptr<Ranks>> ranks = Ranks::Join(meeting, at::kCPU);
      statuses[rank] = ranks.ok() ? body(**ranks) : ranks.status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return statuses;
}

std::vector<float> Numbers(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kFloat).contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

TEST(Ranks, SumBroadcastAndVote) {
  for (const int size : {2, 4}) {
    EXPECT_THAT(OnRanks(size,
                        [&](Ranks& ranks) -> absl::Status {
                          const at::Tensor mine = at::full({3}, ranks.rank() + 1.0, at::kFloat);
                          RETURN_IF_ERROR(ranks.Sum(mine, "numbers"));
                          EXPECT_THAT(Numbers(mine), Each(size * (size + 1) / 2));
                          RETURN_IF_ERROR(ranks.Broadcast(mine.fill_(ranks.rank() + 7.0), "numbers"));
                          EXPECT_THAT(Numbers(mine), Each(7));
                          ASSIGN_OR_RETURN(const bool last_says_so, ranks.Any(ranks.rank() == size - 1, "a vote"));
                          EXPECT_TRUE(last_says_so);
                          ASSIGN_OR_RETURN(const bool nobody_says_so, ranks.Any(false, "a vote"));
                          EXPECT_FALSE(nobody_says_so);
                          ASSIGN_OR_RETURN(const double sum, ranks.Sum(0.5, "a number"));
                          EXPECT_EQ(sum, size * 0.5);
                          return absl::OkStatus();
                        }),
                Each(absl::OkStatus()));
  }
}

TEST(Ranks, AloneThereIsNoGroupAndNothingChanges) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Ranks> alone, Ranks::Join({}, at::kCPU));
  EXPECT_EQ(alone->size(), 1);
  const at::Tensor mine = at::full({2}, 3.0);
  EXPECT_OK(alone->Sum(mine, "numbers"));
  EXPECT_OK(alone->Broadcast(mine, "numbers"));
  EXPECT_THAT(Numbers(mine), ElementsAre(3, 3));
  ASSERT_OK_AND_ASSIGN(const at::Tensor all, SyncAcrossProcesses(mine, *alone));
  EXPECT_TRUE(all.is_same(mine));
  ASSERT_OK_AND_ASSIGN(const std::vector<double> array,
                       SyncAcrossProcesses(std::span<const double>(std::vector<double>{1, 2}), *alone));
  EXPECT_THAT(array, ElementsAre(1, 2));
}

TEST(Ranks, RefusesImpossiblePlaces) {
  EXPECT_THAT(Ranks::Join({.rank = 2, .size = 2}, at::kCPU),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rank 2 of world_size 2")));
  EXPECT_THAT(Ranks::Join({.rank = 0, .size = 2}, at::kCPU),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rendezvous")));
  EXPECT_THAT(Ranks::Join({.rank = 0, .size = 2, .address = "127.0.0.1", .port = 1}, at::Device(at::kCUDA, 0)),
              StatusIs(absl::StatusCode::kUnimplemented, AllOf(HasSubstr("NCCL"), HasSubstr("studio-trainer-cuda"))));
}

TEST(Ranks, SaysThatTheOthersDidNotCome) {
  int port = 0;
  const int fd = Listen(port);
  Meeting meeting{.rank = 0, .size = 2, .address = "127.0.0.1", .port = port, .listen_fd = fd};
  meeting.join_timeout = absl::Milliseconds(500);
  const absl::Status status = Ranks::Join(meeting, at::kCPU).status();
  EXPECT_THAT(status.message(), AllOf(HasSubstr("rank 0 of 2"), HasSubstr("500ms")));
  EXPECT_TRUE(IsPeerLoss(status));
}

TEST(Ranks, LosingAPeerIsToldApartFromAFailureOfOnesOwn) {
  const std::vector<absl::Status> statuses = OnRanks(2, [](Ranks& ranks) -> absl::Status {
    RETURN_IF_ERROR(ranks.Any(false, "a vote").status());
    if (ranks.rank() == 1) return absl::ResourceExhaustedError("out of memory");  // and its group is torn down
    return ranks.Sum(at::zeros({1000}), "the gradients");
  });
  EXPECT_THAT(statuses[0].message(), AllOf(HasSubstr("rank 0 of 2"), HasSubstr("the gradients")));
  EXPECT_TRUE(IsPeerLoss(statuses[0]));
  EXPECT_FALSE(IsPeerLoss(statuses[1]));
}

TEST(SyncAcrossProcesses, JoinsUnevenFirstDimensionsOfAnyType) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kLong, at::kBool, at::kHalf}) {
    EXPECT_THAT(OnRanks(3,
                        [&](Ranks& ranks) -> absl::Status {
                          // Rank r has r rows of 2: rank 0 none.
                          const at::Tensor mine = at::full({ranks.rank(), 2}, ranks.rank() == 2 ? 1 : 0, type);
                          ASSIGN_OR_RETURN(const at::Tensor all, SyncAcrossProcesses(mine, ranks));
                          EXPECT_EQ(all.scalar_type(), type);
                          EXPECT_EQ(all.sizes(), (std::vector<int64_t>{3, 2}));
                          EXPECT_THAT(Numbers(all), ElementsAre(0, 0, 1, 1, 1, 1));
                          return absl::OkStatus();
                        }),
                Each(absl::OkStatus()));
  }
}

TEST(SyncAcrossProcesses, JoinsViewsAndEmptyTensorsAndHostArrays) {
  EXPECT_THAT(OnRanks(2,
                      [](Ranks& ranks) -> absl::Status {
                        const at::Tensor transposed = at::arange(6, at::kFloat).view({2, 3}).t();
                        ASSIGN_OR_RETURN(const at::Tensor all, SyncAcrossProcesses(transposed, ranks));
                        EXPECT_THAT(Numbers(all), ElementsAre(0, 3, 1, 4, 2, 5, 0, 3, 1, 4, 2, 5));
                        ASSIGN_OR_RETURN(const at::Tensor none, SyncAcrossProcesses(at::zeros({0, 4}), ranks));
                        EXPECT_EQ(none.sizes(), (std::vector<int64_t>{0, 4}));
                        const std::vector<int64_t> mine(ranks.rank() + 1, ranks.rank() + 5);
                        ASSIGN_OR_RETURN(const std::vector<int64_t> array,
                                         SyncAcrossProcesses(std::span<const int64_t>(mine), ranks));
                        EXPECT_THAT(array, ElementsAre(5, 6, 6));
                        return absl::OkStatus();
                      }),
              Each(absl::OkStatus()));
}

TEST(SyncAcrossProcesses, EveryRankRefusesWhatDoesNotFit) {
  EXPECT_THAT(OnRanks(2,
                      [](Ranks& ranks) -> absl::Status {
                        return SyncAcrossProcesses(at::zeros({1, 2 + ranks.rank()}), ranks).status();
                      }),
              Each(StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rank 1 gave Float [1, 3]"))));
  EXPECT_THAT(
      OnRanks(2, [](Ranks& ranks) -> absl::Status { return SyncAcrossProcesses(at::zeros({}), ranks).status(); }),
      Each(StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 dimensions"))));
}

}  // namespace
}  // namespace studio
