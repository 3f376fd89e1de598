#include "worker/agent/end_reason.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

namespace studio::worker {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

struct Case {
  const char* name;
  RankEvidence evidence;
  v1::Reason reason;
  const char* message;
};

v1::Failure Said(v1::Reason reason, const std::string& message) {
  v1::Failure failure;
  failure.set_reason(reason);
  failure.set_message(message);
  return failure;
}

RankEvidence Ended(int exit_code, int signal) {
  RankEvidence evidence;
  evidence.end = {exit_code, signal};
  return evidence;
}
RankEvidence With(RankEvidence evidence, v1::Failure failure) {
  evidence.failure = std::move(failure);
  return evidence;
}
RankEvidence AfterOomKill(RankEvidence evidence) {
  evidence.cgroup_kills_rose = true;
  return evidence;
}
RankEvidence NamedByTheKernel(RankEvidence evidence, int64_t resident_bytes) {
  evidence.kernel_kill = KernelKill{.whole_machine = true, .resident_bytes = resident_bytes};
  evidence.host_memory_bytes = int64_t{16} << 30;
  return evidence;
}
RankEvidence LastSaying(RankEvidence evidence, const std::string& words) {
  evidence.last_words = words;
  return evidence;
}
RankEvidence AfterFinish(RankEvidence evidence) {
  evidence.finished.emplace();
  return evidence;
}

class JudgeEndTest : public testing::TestWithParam<Case> {};

TEST_P(JudgeEndTest, FindsReasonAndWords) {
  const RankVerdict verdict = JudgeEnd(GetParam().evidence, "rank 2");
  EXPECT_EQ(verdict.reason, GetParam().reason);
  EXPECT_THAT(verdict.message, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, JudgeEndTest,
    testing::Values(Case{"FinishedWell", AfterFinish(Ended(0, 0)), v1::REASON_UNSPECIFIED, ""},
                    Case{"FinishedThenCrashedTearingDown", AfterFinish(Ended(0, SIGSEGV)), v1::REASON_UNSPECIFIED,
                         "rank 2 finished, then was killed by signal 11"},
                    Case{"EndedWithoutAWord", Ended(0, 0), v1::CRASH, "ended without saying that it had finished"},
                    Case{"Usage", Ended(2, 0), v1::CRASH, "exit code 2"},
                    Case{"BadInput", Ended(65, 0), v1::BAD_INPUT, "exit code 65"},
                    Case{"Internal", Ended(70, 0), v1::CRASH, "exit code 70"},
                    Case{"DeviceOom", Ended(71, 0), v1::DEVICE_OOM, "exit code 71"},
                    Case{"HostOom", Ended(72, 0), v1::HOST_OOM, "exit code 72"},
                    Case{"ItsOwnWordsCountMoreThanItsCode",
                         With(Ended(70, 0), Said(v1::DIVERGED, "loss is NaN at step 7")), v1::DIVERGED,
                         "loss is NaN at step 7"},
                    Case{"ItsOwnWordsCountMoreThanASignal", With(Ended(0, SIGABRT), Said(v1::DEVICE_OOM, "no memory")),
                         v1::DEVICE_OOM, "no memory"},
                    Case{"AFailureWithoutReasonIsACrash", With(Ended(70, 0), Said(v1::REASON_UNSPECIFIED, "odd")),
                         v1::CRASH, "odd"},
                    Case{"Segfault", Ended(0, SIGSEGV), v1::CRASH, "signal 11 (Segmentation fault)"},
                    Case{"KilledWithoutShortage", Ended(0, SIGKILL), v1::CRASH, "signal 9"},
                    Case{"KilledByTheKernelForMemory", AfterOomKill(Ended(0, SIGKILL)), v1::HOST_OOM, "memory"},
                    Case{"NamedInTheKernelsLog", NamedByTheKernel(Ended(0, SIGKILL), int64_t{12} << 30), v1::HOST_OOM,
                         "training.batch_size"},
                    Case{"KilledByTheKernelForOthers", NamedByTheKernel(Ended(0, SIGKILL), 1 << 20), v1::HOST_OOM,
                         "other processes hold the memory of the machine"},
                    Case{"AbortedByAnAllocator", LastSaying(Ended(0, SIGABRT), "what():  std::bad_alloc"), v1::HOST_OOM,
                         "it printed last: what():  std::bad_alloc"},
                    Case{"AbortedThoughMemoryWasShort", AfterOomKill(Ended(0, SIGABRT)), v1::CRASH, "signal 6"},
                    Case{"AnotherSignalThoughMemoryWasShort", AfterOomKill(Ended(0, SIGSEGV)), v1::CRASH, "signal 11"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(JudgeEnd, SaysWhatWasPrintedLast) {
  RankEvidence evidence = Ended(1, 0);
  evidence.last_words = "terminate called";
  EXPECT_THAT(JudgeEnd(evidence, "data preparation").message,
              "data preparation ended with exit code 1; it printed last: terminate called");
}

}  // namespace
}  // namespace studio::worker
