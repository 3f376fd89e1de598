// Every change of state × {before it is durable, after, after the answer}: the process that makes it dies there, by
// SIGKILL, and starts again; the client asks again under its request id. Nothing may be lost, nothing run twice.
// docs/failure_model.md; the points are in controller/loop/job_table.cc and worker/agent/journal.cc.
#include <grpcpp/client_context.h>
#include <signal.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status/grpc_status.h"
#include "common/status/testing.h"
#include "tests/faults/noop_cluster_test.h"

namespace studio {
namespace {

// Superseded checkpoints are collected in the midst of it.
const std::vector<std::string> kSoon = {"--keep-superseded-minutes", "0.001"};

enum class Story { kTrains, kFailsOnce, kIsCancelled };

struct Point {
  std::string name;
  Story story = Story::kTrains;
};

std::vector<Point> Points() {
  std::vector<Point> points;
  const auto add = [&](const std::string& prefix, const std::vector<std::string>& changes,
                       const std::vector<std::string>& phases, Story story) {
    for (const std::string& change : changes) {
      for (const std::string& phase : phases) points.push_back({absl::StrCat(prefix, change, ".", phase), story});
    }
  };
  const std::vector<std::string> stored = {"before", "committed", "answered"}, journalled = {"before", "synced"};
  add("controller.",
      {"submitted", "explained", "assigned", "ATTEMPT_STARTING", "ATTEMPT_RUNNING", "checkpoint", "ATTEMPT_SUCCEEDED"},
      stored, Story::kTrains);
  add("controller.", {"ATTEMPT_FAILED"}, stored, Story::kFailsOnce);
  add("controller.", {"cancel", "ATTEMPT_CANCELLED"}, stored, Story::kIsCancelled);
  add("worker.", {"assigned", "ATTEMPT_STARTING", "ATTEMPT_RUNNING", "checkpoint", "ATTEMPT_SUCCEEDED", "ended"},
      journalled, Story::kTrains);
  // Never synced by itself: an acknowledgement that is lost is asked for again.
  add("worker.", {"acknowledged"}, {"before"}, Story::kTrains);
  add("worker.", {"ATTEMPT_FAILED"}, journalled, Story::kFailsOnce);
  add("worker.", {"ATTEMPT_CANCELLED"}, journalled, Story::kIsCancelled);
  return points;
}

class FailpointTest : public NoopClusterTest, public testing::WithParamInterface<Point> {
 protected:
  bool InController() const { return absl::StartsWith(GetParam().name, "controller."); }

  // As a client does that must not lose its job: again, with the same id, until there is an answer.
  absl::StatusOr<v1::JobRecord> Submit() {
    grpc::ClientContext context;
    v1::SubmitJobRequest request = request_;
    v1::SubmitJobResponse response;
    const absl::Status status = FromGrpc(cluster_->api().SubmitJob(&context, request, &response));
    if (!status.ok()) return status;
    return response.record();
  }
  absl::Status Cancel(const std::string& id) {
    grpc::ClientContext context;
    v1::CancelJobRequest request;
    request.set_id(id);
    v1::JobRecord record;
    return FromGrpc(cluster_->api().CancelJob(&context, request, &record));
  }

  // The program whose point it is dies there, and starts again without it.
  void DieAndStartAgain() {
    const absl::StatusOr<ProcessEnd> end = InController() ? cluster_->AwaitControllerEnd() : cluster_->AwaitWorkerEnd();
    ASSERT_OK(end) << "the point was never passed";
    ASSERT_EQ(end->signal, SIGKILL);
    ASSERT_OK(InController() ? cluster_->StartController({}, kSoon) : cluster_->StartWorker());
  }

  // A job like the one to come, so that its files are in the store; it waits for a Mac and is cancelled.
  void LearnRequest(const Cluster::Labels& labels) {
    ASSERT_OK(cluster_->StartController({}, kSoon));
    ASSERT_OK_AND_ASSIGN(const std::string id, cluster_->Submit(labels, "resources { backend: MPS }\n"));
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, v1::PENDING));
    ASSERT_OK(Cancel(id));
    *request_.mutable_job() = record.job();
    request_.mutable_job()->mutable_resources()->set_backend(v1::BACKEND_AUTO);
    *request_.mutable_inputs() = record.inputs();
    request_.set_request_id("the one");
    cluster_->KillController();
  }

  v1::SubmitJobRequest request_;
};

TEST_P(FailpointTest, LosesNothingAndRunsNothingTwice) {
  const Story story = GetParam().story;
  Cluster::Labels labels = {{"noop.steps", "6"}, {"noop.checkpoint_every", "2"}};
  if (story == Story::kFailsOnce) {
    labels.insert(labels.end(), {{"noop.fail", "CRASH: once"}, {"noop.fail_at", "3"}, {"noop.fail_fresh", "1"}});
  }
  if (story == Story::kIsCancelled) labels = {{"noop.steps", "100000"}, {"noop.step_ms", "5"}};
  LearnRequest(labels);
  if (HasFatalFailure()) return;

  const std::vector<std::string> failpoint = {"STUDIO_FAILPOINTS=" + GetParam().name};
  ASSERT_OK(cluster_->StartController(InController() ? failpoint : std::vector<std::string>{}, kSoon));
  // The controller says why the job waits before there is a worker.
  absl::StatusOr<v1::JobRecord> submitted = Submit();
  const bool before_any_worker = absl::StartsWith(GetParam().name, "controller.submitted") ||
                                 absl::StartsWith(GetParam().name, "controller.explained");
  if (before_any_worker) DieAndStartAgain();
  ASSERT_OK(cluster_->StartWorker({}, {}, InController() ? std::vector<std::string>{} : failpoint));
  if (!submitted.ok()) submitted = Submit();
  ASSERT_OK(submitted);
  const std::string id = submitted->id();
  if (story == Story::kIsCancelled) {
    ASSERT_OK(cluster_->Await(id, [](const v1::JobRecord& record) { return record.progress().step() > 3; }));
    const absl::Status first = Cancel(id);
    DieAndStartAgain();
    if (!first.ok()) {
      ASSERT_OK(Cancel(id));
    }
  } else if (!before_any_worker) {
    DieAndStartAgain();
  }
  if (HasFatalFailure()) return;

  ASSERT_OK_AND_ASSIGN(const v1::JobRecord again, Submit());
  EXPECT_EQ(again.id(), id) << "a repeated request is the same job";
  const v1::JobState end = story == Story::kIsCancelled ? v1::CANCELLED : v1::SUCCEEDED;
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, end));
  // A controller's death costs no attempt, a worker's one.
  const int expected = (story == Story::kFailsOnce ? 2 : 1) + (InController() ? 0 : 1);
  EXPECT_LE(record.attempts_size(), expected) << record.ShortDebugString();
  if (end == v1::SUCCEEDED) {
    EXPECT_EQ(record.checkpoint().step(), 6);
  }
  if (GetParam().name == "worker.checkpoint.synced") {
    EXPECT_EQ(record.attempts().rbegin()->start_step(), 2) << "a checkpoint that the agent had written down is lost";
  }
  EXPECT_EQ(trainers_->overlaps(), "");

  cluster_->KillWorker();
  cluster_->KillController();
  ASSERT_OK_AND_ASSIGN(const std::string verified, cluster_->VerifyController());
  EXPECT_THAT(verified, testing::HasSubstr(": 2 jobs,"));  // that which taught the request, and this one
}

INSTANTIATE_TEST_SUITE_P(All, FailpointTest, testing::ValuesIn(Points()), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) c = c == '.' ? '_' : c;
  return name;
});

}  // namespace
}  // namespace studio
