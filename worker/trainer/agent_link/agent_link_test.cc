#include "worker/trainer/agent_link/agent_link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <memory>

#include "common/framing/framing.h"
#include "common/status/testing.h"

namespace studio {
namespace {

class AgentLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds_), 0);
    link_ = std::make_unique<AgentLink>(fds_[0], [this](AgentLink::Over why) { over_.set_value(why); });
  }
  void TearDown() override {
    link_.reset();
    close(fds_[0]);
    if (fds_[1] >= 0) close(fds_[1]);
  }

  v1::TrainerUp Receive() {
    v1::TrainerUp event;
    EXPECT_OK(reader().Read(event));
    return event;
  }
  FrameReader& reader() {
    if (!reader_) reader_ = std::make_unique<FrameReader>(fds_[1]);
    return *reader_;
  }
  void Order(const v1::TrainerDown& order) { ASSERT_OK(WriteFrame(fds_[1], order)); }
  // The reader thread takes orders as they come: ask until some did.
  Orders WaitForOrders() {
    while (true) {
      const Orders orders = link_->TakeOrders();
      if (orders.stop || orders.checkpoint || orders.recorded_step) return orders;
      std::this_thread::yield();
    }
  }

  int fds_[2] = {-1, -1};
  std::promise<AgentLink::Over> over_;
  std::unique_ptr<AgentLink> link_;
  std::unique_ptr<FrameReader> reader_;
};

TEST_F(AgentLinkTest, NumbersEventsInOrder) {
  link_->Send(StateEvent(v1::ATTEMPT_PREPARING));
  link_->Send(NoteEvent("attention falls back to SDPA"));
  const v1::TrainerUp first = Receive(), second = Receive();
  EXPECT_EQ(first.sequence(), 1);
  EXPECT_EQ(first.state(), v1::ATTEMPT_PREPARING);
  EXPECT_EQ(second.sequence(), 2);
  EXPECT_EQ(second.note(), "attention falls back to SDPA");
}

TEST_F(AgentLinkTest, TakesEachOrderOnce) {
  v1::TrainerDown order;
  order.mutable_stop()->set_discard(true);
  Order(order);
  const Orders orders = WaitForOrders();
  EXPECT_TRUE(orders.stop);
  EXPECT_TRUE(orders.discard);
  EXPECT_FALSE(link_->TakeOrders().stop);
  order.set_recorded_step(40);
  Order(order);
  EXPECT_EQ(WaitForOrders().recorded_step, 40);
  order.mutable_checkpoint();
  Order(order);
  EXPECT_TRUE(WaitForOrders().checkpoint);
}

TEST_F(AgentLinkTest, SaysOnceThatTheAgentIsGone) {
  close(fds_[1]);
  fds_[1] = -1;
  EXPECT_EQ(over_.get_future().get(), AgentLink::Over::kAgentGone);
  link_->Send(StateEvent(v1::ATTEMPT_RUNNING));  // goes nowhere, and Flush does not hang
  link_->Flush();
}

TEST_F(AgentLinkTest, SaysThatTheEpochIsOver) {
  v1::TrainerDown order;
  order.mutable_epoch_over();
  Order(order);
  EXPECT_EQ(over_.get_future().get(), AgentLink::Over::kEpochOver);
}

TEST_F(AgentLinkTest, DropsProgressButNeverStatesWhereTheAgentDoesNotRead) {
  v1::TrainerUp point;
  point.mutable_progress()->set_loss(1);
  // Far more than a socket's buffer holds.
  constexpr int kPoints = 200'000;
  for (int i = 0; i < kPoints; ++i) {
    point.mutable_progress()->set_step(i);
    link_->Send(point);
    if (i % 1000 == 0) link_->Send(NoteEvent("kept"));
  }
  link_->Send(StateEvent(v1::ATTEMPT_SUCCEEDED));
  int notes = 0, points = 0;
  int64_t last_step = -1;
  for (v1::TrainerUp event = Receive(); !event.has_state(); event = Receive()) {
    notes += event.has_note();
    if (!event.has_progress()) continue;
    ++points;
    EXPECT_GT(event.progress().step(), last_step);
    last_step = event.progress().step();
  }
  EXPECT_EQ(notes, kPoints / 1000);
  EXPECT_EQ(last_step, kPoints - 1);
  EXPECT_LT(points, kPoints);
}

}  // namespace
}  // namespace studio
