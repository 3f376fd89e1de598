#include "controller/loop/executor.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

namespace studio::controller {
namespace {

TEST(Executor, RunsEachThreadsTasksInOrderOnOneThread) {
  std::vector<std::vector<int>> seen(4);
  std::thread::id thread;
  {
    Executor executor;
    executor.Post([&] { thread = std::this_thread::get_id(); });
    std::vector<std::thread> posters;
    for (int p = 0; p < 4; ++p) {
      posters.emplace_back([&, p] {
        for (int i = 0; i < 1000; ++i) {
          executor.Post([&, p, i] {
            EXPECT_EQ(std::this_thread::get_id(), thread);
            seen[p].push_back(i);
          });
        }
      });
    }
    for (std::thread& poster : posters) poster.join();
  }  // the destructor runs what was posted
  for (const std::vector<int>& order : seen) {
    ASSERT_EQ(order.size(), 1000);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  }
}

TEST(Executor, TicksByItselfWhenTimeHasCome) {
  std::promise<void> third;
  int ticks = 0;
  Executor executor([&] {
    if (++ticks == 3) third.set_value();
    return ticks < 3 ? absl::Milliseconds(1) : absl::InfiniteDuration();
  });
  executor.Post([] {});
  third.get_future().wait();
}

TEST(Executor, DropsWhatComesAfterStop) {
  Executor executor;
  executor.Stop();
  executor.Post([] { FAIL() << "ran after Stop"; });
}

}  // namespace
}  // namespace studio::controller
