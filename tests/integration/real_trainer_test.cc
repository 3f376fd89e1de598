// Every program as it ships, on a model that trains in seconds, and what is left of a job when one of them is killed:
// the same bits as without.
#include <signal.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/env/posix_env.h"
#include "common/status/macros.h"
#include "common/status/testing.h"
#include "tests/e2e/tiny_model.h"
#include "tests/integration/cluster.h"
#include "tests/integration/started_trainers.h"

namespace studio {
namespace {

using testing::HasSubstr;
using testing::Lt;

// Enough that a job never ends before its kill, however late a slow machine hears of a step.
constexpr int kSteps = 240;

constexpr char kJob[] = R"(
name: "tiny"
dataset { train_dataframe: "rows.jsonl" validation_size: 0.2 }
tokenizer { max_length: 96 }
architecture { llm_backbone: "model" pretrained: false }
training {
  learning_rate: 0.01 batch_size: 2 grad_accumulation: 2 lora_r: 4 lora_dropout: 0.1 eval_steps: 20 logging_steps: 1
}
prediction { max_length_inference: 8 }
environment { mixed_precision_dtype: FLOAT32 number_of_workers: 1 }
retry { max_crashes: 100 }
)";

// What a job leaves behind that must not depend on who was killed meanwhile.
struct Outcome {
  v1::JobRecord record;
  std::string adapter;

  // Evaluations in full precision, samples and notes.
  std::string Figures() const {
    std::ostringstream text;
    for (const v1::Evaluation& evaluation : record.evaluations()) {
      text << "step " << evaluation.step() << ": " << std::hexfloat << evaluation.loss() << " over " << std::dec
           << evaluation.valid_tokens() << "\n";
    }
    for (const v1::Sample& sample : record.samples()) {
      text << "step " << sample.step() << ": " << sample.prompt() << " -> " << sample.answer() << "\n";
    }
    for (const std::string& note : record.notes()) text << note << "\n";
    return text.str();
  }
};

void ExpectSame(const Outcome& killed, const Outcome& reference) {
  EXPECT_EQ(killed.Figures(), reference.Figures());
  EXPECT_EQ(killed.record.progress().step(), reference.record.progress().step());
  EXPECT_EQ(killed.record.progress().loss(), reference.record.progress().loss());
  EXPECT_EQ(killed.record.progress().tokens_seen(), reference.record.progress().tokens_seen());
  EXPECT_TRUE(killed.adapter == reference.adapter) << "the adapters differ";
}

class RealTrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    ASSERT_OK(WriteTinyModel(folder_ + "/model"));
    ASSERT_OK(WriteRows(folder_ + "/rows.jsonl", 48));
    ASSERT_OK(WriteText(folder_ + "/job.pb.txt", kJob));
    absl::StatusOr<StartedTrainers> trainers = StartedTrainers::Create(folder_, "worker/trainer/studio-trainer");
    ASSERT_OK(trainers);
    trainers_.emplace(*std::move(trainers));
    Cluster::Binaries binaries;
    binaries.trainer = trainers_->program();
    binaries.dataprep = "worker/data/studio-dataprep";
    cluster_ = std::make_unique<Cluster>(folder_, binaries);
    ASSERT_OK(cluster_->StartController());
    ASSERT_OK(cluster_->StartWorker());
  }
  void TearDown() override {
    if (trainers_) {
      EXPECT_EQ(trainers_->overlaps(), "") << "started while another trainer lived";
    }
    cluster_.reset();
    std::error_code ignored;  // after a failure a rank may still be ending there
    std::filesystem::remove_all(folder_, ignored);
  }

  // kJob with these fields set; returns its id.
  absl::StatusOr<std::string> Submit(const std::vector<std::string>& sets) {
    std::vector<std::string> all = {absl::StrCat("training.max_steps=", kSteps)};
    all.insert(all.end(), sets.begin(), sets.end());
    return cluster_->SubmitFile(folder_ + "/job.pb.txt", all);
  }

  absl::StatusOr<Outcome> AwaitSuccess(const std::string& id) {
    Outcome outcome;
    ASSIGN_OR_RETURN(outcome.record, cluster_->AwaitState(id, v1::SUCCEEDED));
    const std::string home = absl::StrCat(folder_, "/home-", id);
    ASSIGN_OR_RETURN(const Cluster::Ctl ctl, cluster_->RunCtl({"download", id, "--out", home}));
    if (ctl.exit_code != 0) return absl::InternalError(ctl.output);
    ASSIGN_OR_RETURN(outcome.adapter, PosixEnv().ReadFile(home + "/adapter_model.safetensors"));
    return outcome;
  }

  // The job as nobody disturbs it.
  absl::StatusOr<Outcome> RunReference() {
    ASSIGN_OR_RETURN(const std::string id, Submit({}));
    RETURN_IF_ERROR(trainers_->Next().status());
    ASSIGN_OR_RETURN(Outcome outcome, AwaitSuccess(id));
    if (outcome.record.attempts_size() != 1) return absl::InternalError(outcome.record.ShortDebugString());
    return outcome;
  }

  // The job once this step's checkpoint, or a later one's, is recorded.
  absl::StatusOr<v1::JobRecord> AwaitCheckpoint(const std::string& id, int64_t step) {
    return cluster_->Await(id, [=](const v1::JobRecord& record) { return record.checkpoint().step() >= step; });
  }

  const std::string folder_ =
      absl::StrCat(testing::TempDir(), "/", testing::UnitTest::GetInstance()->current_test_info()->name());
  std::optional<StartedTrainers> trainers_;
  std::unique_ptr<Cluster> cluster_;
};

TEST_F(RealTrainerTest, FineTunesThroughTheController) {
  ASSERT_OK_AND_ASSIGN(const Outcome outcome, RunReference());
  const v1::JobRecord& record = outcome.record;
  ASSERT_EQ(record.evaluations_size(), 1 + kSteps / 20) << "before the first step, then every 20";
  EXPECT_EQ(record.evaluations(0).step(), 0);
  EXPECT_EQ(record.evaluations().rbegin()->step(), kSteps);
  EXPECT_LT(record.evaluations().rbegin()->loss(), 0.8 * record.evaluations(0).loss());
  EXPECT_EQ(record.samples_size(), 2) << "one prompt, before and after";
  EXPECT_EQ(record.progress().step(), kSteps);
  EXPECT_EQ(record.data().rows(), 48);
  EXPECT_TRUE(std::filesystem::exists(absl::StrCat(folder_, "/home-", record.id(), "/adapter_config.json")));
  EXPECT_GT(outcome.adapter.size(), 1000);
}

TEST_F(RealTrainerTest, TrainerKilledAtRandomMomentsEndsBitEqual) {
  ASSERT_OK_AND_ASSIGN(const Outcome reference, RunReference());
  ASSERT_OK_AND_ASSIGN(const std::string id, Submit({"training.save_steps=1"}));

  std::mt19937 random(20240607);
  constexpr int kKills = 6;
  int64_t recorded = 0;
  for (int kill = 1; kill <= kKills; ++kill) {
    ASSERT_OK_AND_ASSIGN(const StartedTrainer trainer, trainers_->Next());
    EXPECT_EQ(trainer.attempt(), kill);
    // So many steps on; or at once, while it loads. Where in a step, a write or an upload it falls is chance.
    if (const int steps = std::uniform_int_distribution<int>(-4, 9)(random); steps > 0) {
      ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, AwaitCheckpoint(id, recorded + steps));
      recorded = record.checkpoint().step();
    }
    ASSERT_OK(trainer.Kill());
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->Await(id, [=](const v1::JobRecord& record) {
      return record.attempts_size() > kill;
    }));
    EXPECT_GE(record.attempts(kill).start_step(), recorded) << "it goes on from what was recorded last";
    recorded = record.attempts(kill).start_step();
  }
  ASSERT_GT(recorded, 0);
  ASSERT_THAT(recorded, Lt(kSteps)) << "nothing was left to do after the last kill";

  ASSERT_OK_AND_ASSIGN(const Outcome killed, AwaitSuccess(id));
  ASSERT_EQ(killed.record.attempts_size(), kKills + 1);
  for (int i = 0; i < kKills; ++i) {
    EXPECT_EQ(killed.record.attempts(i).reason(), v1::CRASH);
    EXPECT_EQ(killed.record.attempts(i).signal(), SIGKILL);
  }
  ExpectSame(killed, reference);
}

TEST_F(RealTrainerTest, ControllerKilledWhileTraining) {
  ASSERT_OK_AND_ASSIGN(const Outcome reference, RunReference());
  ASSERT_OK_AND_ASSIGN(const std::string id, Submit({"training.save_steps=1"}));
  ASSERT_OK_AND_ASSIGN(const StartedTrainer trainer, trainers_->Next());
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord before, AwaitCheckpoint(id, 5));
  cluster_->KillController();

  const v1::Attempt& attempt = before.attempts(0);
  ASSERT_OK_AND_ASSIGN(NewEntries checkpoints,
                       NewEntries::In(absl::StrCat(cluster_->worker_state_dir(), "/attempts/", id, "-a1-e",
                                                   attempt.epoch(), "/out/checkpoints")));
  // Far enough that an evaluation falls into the time without a controller.
  ASSERT_OK(checkpoints.Await("step-", 65));
  EXPECT_FALSE(trainer.Ended());
  ASSERT_OK(cluster_->StartController());

  ASSERT_OK_AND_ASSIGN(const Outcome outcome, AwaitSuccess(id));
  EXPECT_EQ(outcome.record.attempts_size(), 1) << outcome.record.ShortDebugString();
  EXPECT_FALSE(trainers_->More()) << "no second trainer was started";
  ExpectSame(outcome, reference);
  ASSERT_OK_AND_ASSIGN(const Cluster::Ctl logs, cluster_->RunCtl({"logs", id}));
  EXPECT_THAT(logs.output, HasSubstr("48 rows"));
  for (int step = 1; step <= kSteps; ++step) {
    const std::string line = absl::StrCat("step ", step, "/", kSteps, "  loss ");
    const size_t first = logs.output.find(line);
    ASSERT_NE(first, logs.output.npos) << "no \"" << line << "\" in:\n" << logs.output;
    EXPECT_EQ(logs.output.find(line, first + 1), logs.output.npos) << line << " is there twice";
  }
}

TEST_F(RealTrainerTest, AgentKilledWhileTraining) {
  ASSERT_OK_AND_ASSIGN(const Outcome reference, RunReference());
  ASSERT_OK_AND_ASSIGN(const std::string id, Submit({"training.save_steps=2"}));
  ASSERT_OK_AND_ASSIGN(StartedTrainer trainer, trainers_->Next());
  int64_t recorded = 0;
  // Once while it trains, once while it loads.
  for (const int steps : {10, 0}) {
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, AwaitCheckpoint(id, steps));
    recorded = record.checkpoint().step();
    ASSERT_FALSE(trainer.Ended());
    cluster_->KillWorker();
    // At once: nothing but the worker itself keeps the next trainer from starting beside the last.
    ASSERT_OK(cluster_->StartWorker());
    ASSERT_OK(trainer.AwaitEnd()) << "a rank ends with its agent";
    ASSERT_OK_AND_ASSIGN(trainer, trainers_->Next());
  }
  // Without a proof that the ranks are dead, the second attempt would wait for retry.fence_seconds.
  ASSERT_OK_AND_ASSIGN(const Outcome outcome, AwaitSuccess(id));
  EXPECT_FALSE(trainers_->More());
  ASSERT_EQ(outcome.record.attempts_size(), 3) << outcome.record.ShortDebugString();
  EXPECT_EQ(outcome.record.attempts(0).reason(), v1::NODE_LOST);
  EXPECT_GE(outcome.record.attempts(1).start_step(), 10);
  EXPECT_EQ(outcome.record.attempts(1).reason(), v1::NODE_LOST);
  EXPECT_GE(outcome.record.attempts(2).start_step(), recorded);
  EXPECT_LT(outcome.record.attempts(2).start_step(), kSteps);
  ExpectSame(outcome, reference);
}

}  // namespace
}  // namespace studio
