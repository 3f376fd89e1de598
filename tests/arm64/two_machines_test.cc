// An x86-64 worker and an ARM64 one on one controller: each job lands where it can run, and one for a Mac waits.
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status/macros.h"
#include "common/status/testing.h"
#include "tests/arm64/machine.h"
#include "tests/e2e/tiny_model.h"
#include "tests/integration/cluster.h"

namespace studio {
namespace {

using testing::HasSubstr;

constexpr char kJob[] = R"(
name: "tiny"
dataset { train_dataframe: "rows.jsonl" validation_size: 0.2 }
tokenizer { max_length: 96 }
architecture { llm_backbone: "model" pretrained: false }
training { learning_rate: 0.01 batch_size: 2 grad_accumulation: 2 max_steps: 4 eval_steps: 4 lora_r: 4 }
prediction { max_length_inference: 4 }
environment { mixed_precision_dtype: FLOAT32 number_of_workers: 1 }
)";

class TwoMachinesTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(const Machine arm64, Arm64());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    ASSERT_OK(WriteTinyModel(folder_ + "/model"));
    ASSERT_OK(WriteRows(folder_ + "/rows.jsonl", 48));
    ASSERT_OK(WriteText(folder_ + "/job.pb.txt", kJob));
    cluster_.emplace(folder_, X8664().Binaries());
    ASSERT_OK(cluster_->StartController());
    ASSERT_OK(cluster_->StartWorker());
    ASSERT_OK(cluster_->AddWorker("arm64-worker", arm64.Binaries()));
  }
  void TearDown() override {
    cluster_.reset();
    std::error_code ignored;  // after a failure a rank may still be ending there
    std::filesystem::remove_all(folder_, ignored);
  }

  absl::StatusOr<std::string> Submit(const std::vector<std::string>& sets) {
    return cluster_->SubmitFile(folder_ + "/job.pb.txt", sets);
  }
  // Submits, awaits the end, and returns the record.
  absl::StatusOr<v1::JobRecord> Train(const std::vector<std::string>& sets) {
    ASSIGN_OR_RETURN(const std::string id, Submit(sets));
    return cluster_->AwaitState(id, v1::SUCCEEDED);
  }
  static std::string WorkerOf(const v1::JobRecord& record) {
    return record.attempts_size() == 1 && record.attempts(0).ranks_size() == 1
               ? record.attempts(0).ranks(0).worker_id()
               : "not one attempt of one rank: " + record.ShortDebugString();
  }
  // The id of the worker of an architecture; "" where there is not exactly one.
  absl::StatusOr<std::string> WorkerOfArch(v1::Arch arch) {
    grpc::ClientContext context;
    v1::ListWorkersResponse response;
    const grpc::Status status = cluster_->api().ListWorkers(&context, {}, &response);
    if (!status.ok()) return absl::UnavailableError(status.error_message());
    std::string id;
    for (const v1::WorkerRecord& worker : response.workers()) {
      if (worker.inventory().arch() == arch) id = id.empty() ? worker.id() : "two of them";
    }
    return id;
  }

  const std::string folder_ =
      absl::StrCat(testing::TempDir(), "/", testing::UnitTest::GetInstance()->current_test_info()->name());
  std::optional<Cluster> cluster_;
};

TEST_F(TwoMachinesTest, JobsLandByWhatTheyAskForAndAJobForAMacWaits) {
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord on_arm64, Train({"resources.arch=ARM64"}));
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord on_x86_64, Train({"resources.arch=X86_64"}));
  ASSERT_OK_AND_ASSIGN(const std::string arm64, WorkerOfArch(v1::ARM64));
  ASSERT_OK_AND_ASSIGN(const std::string x86_64, WorkerOfArch(v1::X86_64));
  EXPECT_EQ(WorkerOf(on_arm64), arm64);
  EXPECT_EQ(WorkerOf(on_x86_64), x86_64);
  EXPECT_NE(arm64, x86_64);
  EXPECT_NEAR(on_arm64.progress().loss(), on_x86_64.progress().loss(), 1e-4);

  ASSERT_OK_AND_ASSIGN(const std::string mac, Submit({"resources.backend=MPS"}));
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord waits, cluster_->Await(mac, [](const v1::JobRecord& record) {
    return absl::StrContains(record.message(), "MPS");
  }));
  EXPECT_EQ(waits.state(), v1::PENDING);
  EXPECT_EQ(waits.message(), "no worker has a device of backend MPS (there are CPU)");
  ASSERT_OK_AND_ASSIGN(const Cluster::Ctl get, cluster_->RunCtl({"get", mac}));
  EXPECT_THAT(get.output, HasSubstr("no worker has a device of backend MPS (there are CPU)"));

  // One that asks for nothing is not held up behind it.
  ASSERT_OK(Train({}).status());
}

TEST_F(TwoMachinesTest, TwoJobsOfDifferentMachinesRunAtTheSameTime) {
  const std::vector<std::string> endless = {"training.max_steps=1000000", "training.eval_steps=1000000"};
  std::vector<std::string> ids;
  for (const std::string arch : {"ARM64", "X86_64"}) {
    std::vector<std::string> sets = endless;
    sets.push_back("resources.arch=" + arch);
    ASSERT_OK_AND_ASSIGN(const std::string id, Submit(sets));
    ids.push_back(id);
  }
  for (const std::string& id : ids) {
    ASSERT_OK(cluster_->Await(id, [](const v1::JobRecord& record) { return record.progress().step() >= 1; }));
  }
  // Each architecture's line names its job, while both run.
  ASSERT_OK_AND_ASSIGN(const Cluster::Ctl workers, cluster_->RunCtl({"workers", "-o", "wide"}));
  for (const auto& [arch, id] : {std::pair<std::string, std::string>("ARM64", ids[0]), {"X86_64", ids[1]}}) {
    int lines = 0;
    for (const std::string& line : std::vector<std::string>(absl::StrSplit(workers.output, '\n'))) {
      if (!absl::StrContains(line, "  " + arch + "  ")) continue;
      ++lines;
      EXPECT_THAT(line, HasSubstr("READY"));
      EXPECT_THAT(line, HasSubstr("  " + id + "  "));
      EXPECT_THAT(line, HasSubstr("  CPU  "));
    }
    EXPECT_EQ(lines, 1) << arch << ":\n" << workers.output;
  }
  for (const std::string& id : ids) {
    ASSERT_OK_AND_ASSIGN(const Cluster::Ctl cancelled, cluster_->RunCtl({"cancel", id}));
    EXPECT_EQ(cancelled.exit_code, 0) << cancelled.output;
    ASSERT_OK(cluster_->AwaitState(id, v1::CANCELLED));
  }
}

}  // namespace
}  // namespace studio
