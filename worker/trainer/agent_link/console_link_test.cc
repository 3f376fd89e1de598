#include "worker/trainer/agent_link/console_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace studio {
namespace {

using testing::HasSubstr;

TEST(ConsoleLink, PrintsALineForEachEvent) {
  std::ostringstream out;
  const std::atomic<bool> stop = false;
  ConsoleLink link(out, stop);
  v1::TrainerUp event;
  v1::Progress& point = *event.mutable_progress();
  point.set_step(3);
  point.set_total_steps(8);
  point.set_loss(3.25);
  link.Send(event);
  EXPECT_THAT(out.str(), HasSubstr("step 3/8  loss 3.2500"));
  (*event.mutable_data()->mutable_dropped())["no answer"] = 2;
  link.Send(event);
  EXPECT_THAT(out.str(), HasSubstr("dropped 2: no answer"));
  link.Send(NoteEvent("bf16 falls back to fp32"));
  EXPECT_THAT(out.str(), HasSubstr("note: bf16 falls back to fp32\n"));
}

TEST(ConsoleLink, RecordsEachCheckpointAtOnce) {
  std::ostringstream out;
  const std::atomic<bool> stop = false;
  ConsoleLink link(out, stop);
  EXPECT_EQ(link.TakeOrders().recorded_step, std::nullopt);
  v1::TrainerUp event;
  event.mutable_checkpoint()->set_step(40);
  link.Send(event);
  EXPECT_EQ(link.TakeOrders().recorded_step, 40);
  EXPECT_EQ(link.TakeOrders().recorded_step, std::nullopt);
}

TEST(ConsoleLink, TurnsASignalIntoTheOrderToStop) {
  std::ostringstream out;
  std::atomic<bool> stop = false;
  ConsoleLink link(out, stop);
  EXPECT_FALSE(link.TakeOrders().stop);
  stop = true;
  EXPECT_TRUE(link.TakeOrders().stop);
  EXPECT_FALSE(link.TakeOrders().discard);
}

}  // namespace
}  // namespace studio
