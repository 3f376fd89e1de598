// The same job on x86-64 and on ARM64: through controller, agent and trainer to the same losses, and from a checkpoint
// that the other machine made to the losses of a run that nobody interrupted. fp32, within kTolerance.
//
// This program itself is x86-64: the emulator runs only what is under test.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/env/posix_env.h"
#include "common/status/macros.h"
#include "common/status/testing.h"
#include "tests/arm64/machine.h"
#include "tests/e2e/tiny_model.h"
#include "tests/e2e/trainer_run.h"
#include "tests/integration/cluster.h"

namespace studio {
namespace {

constexpr double kTolerance = 1e-4;
constexpr int kSteps = 12;
// A checkpoint falls here, with as many steps before it as after.
constexpr int kHandOver = 6;

constexpr char kJob[] = R"(
name: "tiny"
dataset { train_dataframe: "rows.jsonl" validation_size: 0.2 }
tokenizer { max_length: 96 }
architecture { llm_backbone: "model" pretrained: false }
training {
  learning_rate: 0.01 batch_size: 2 grad_accumulation: 2 max_steps: 12 eval_steps: 3 save_steps: 6 logging_steps: 1
  save_total_limit: 10 lora_r: 4 lora_dropout: 0.1
}
prediction { max_length_inference: 8 }
environment { mixed_precision_dtype: FLOAT32 number_of_workers: 1 }
)";

class ExchangeTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(arm64_, Arm64());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    ASSERT_OK(WriteTinyModel(folder_ + "/model"));
    ASSERT_OK(WriteRows(folder_ + "/rows.jsonl", 48));
    ASSERT_OK(WriteText(folder_ + "/job.pb.txt", kJob));
  }
  void TearDown() override {
    std::error_code ignored;  // after a failure a rank may still be ending there
    std::filesystem::remove_all(folder_, ignored);
  }

  // The trainer alone, into `out`; the loss of each optimizer step since `resume` (or the start).
  absl::StatusOr<std::vector<double>> Train(const Machine& machine, const std::string& out, bool resume = false) {
    std::vector<std::string> arguments = {"--job",      folder_ + "/job.pb.txt", "--out", folder_ + "/" + out,
                                          "--data-dir", folder_ + "/data-" + out};
    if (resume) arguments.insert(arguments.end(), {"--resume", folder_ + "/" + out});
    TrainerRun run(arguments, false, machine.Trainer());
    if (const int code = run.Wait(); code != 0) {
      return absl::InternalError(absl::StrCat(machine.name, "'s trainer ended with ", code, ":\n", run.output()));
    }
    const nlohmann::json summary = nlohmann::json::parse(std::ifstream(folder_ + "/" + out + "/summary.json"));
    if (summary["first_step"] != (resume ? kHandOver : 0)) return absl::InternalError(summary.dump());
    return summary["losses"].get<std::vector<double>>();
  }

  // Trains on `from`, gives `to` nothing but the data and the checkpoint of step kHandOver, and trains on there.
  absl::StatusOr<std::vector<double>> HandOver(const Machine& from, const Machine& to) {
    RETURN_IF_ERROR(Train(from, "whole").status());
    const std::string checkpoint = absl::StrCat("/checkpoints/step-", kHandOver);
    if (!std::filesystem::exists(folder_ + "/whole" + checkpoint)) return absl::InternalError("no " + checkpoint);
    std::filesystem::create_directories(folder_ + "/handed/checkpoints");
    std::filesystem::copy(folder_ + "/whole" + checkpoint, folder_ + "/handed" + checkpoint,
                          std::filesystem::copy_options::recursive);
    return Train(to, "handed", /*resume=*/true);
  }

  // The job through every program; the record of its end.
  absl::StatusOr<v1::JobRecord> FineTune(const Machine& machine) {
    const std::string folder = folder_ + "/" + machine.name;
    std::filesystem::create_directories(folder);
    Cluster cluster(folder, machine.Binaries());
    RETURN_IF_ERROR(cluster.StartController());
    RETURN_IF_ERROR(cluster.StartWorker());
    ASSIGN_OR_RETURN(const std::string id, cluster.SubmitFile(folder_ + "/job.pb.txt"));
    ASSIGN_OR_RETURN(v1::JobRecord record, cluster.AwaitState(id, v1::SUCCEEDED));
    ASSIGN_OR_RETURN(const Cluster::Ctl download, cluster.RunCtl({"download", id, "--out", folder + "/result"}));
    if (download.exit_code != 0) return absl::InternalError(download.output);
    if (!std::filesystem::exists(folder + "/result/adapter_model.safetensors")) {
      return absl::InternalError("no adapter came home: " + download.output);
    }
    return record;
  }

  static void ExpectNear(const std::vector<double>& a, const std::vector<double>& b) {
    ASSERT_EQ(a.size(), b.size());
    double largest = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_NEAR(a[i], b[i], kTolerance) << "loss " << i;
      largest = std::max(largest, std::abs(a[i] - b[i]));
    }
    std::cout << a.size() << " losses, the largest difference " << largest << "\n";
  }

  static std::vector<double> After(std::vector<double> losses, int step) {
    losses.erase(losses.begin(), losses.begin() + step);
    return losses;
  }

  const std::string folder_ =
      absl::StrCat(testing::TempDir(), "/", testing::UnitTest::GetInstance()->current_test_info()->name());
  const Machine x86_64_ = X8664();
  Machine arm64_;
};

TEST_F(ExchangeTest, FineTunesThroughTheControllerToTheSameLosses) {
  std::vector<double> losses[2];
  const Machine* const machines[] = {&x86_64_, &arm64_};
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, FineTune(*machines[i]));
    EXPECT_EQ(record.attempts_size(), 1);
    ASSERT_EQ(record.evaluations_size(), 1 + kSteps / 3) << "before the first step, then every 3";
    for (const v1::Evaluation& evaluation : record.evaluations()) losses[i].push_back(evaluation.loss());
    EXPECT_LT(losses[i].back(), losses[i].front()) << "nothing was learnt";
    losses[i].push_back(record.progress().loss());
  }
  ExpectNear(losses[0], losses[1]);
}

TEST_F(ExchangeTest, Arm64ContinuesFromAnX8664Checkpoint) {
  ASSERT_OK_AND_ASSIGN(const std::vector<double> alone, Train(arm64_, "alone"));
  ASSERT_EQ(alone.size(), kSteps);
  ASSERT_OK_AND_ASSIGN(const std::vector<double> handed, HandOver(x86_64_, arm64_));
  ExpectNear(handed, After(alone, kHandOver));
}

TEST_F(ExchangeTest, X8664ContinuesFromAnArm64Checkpoint) {
  ASSERT_OK_AND_ASSIGN(const std::vector<double> alone, Train(x86_64_, "alone"));
  ASSERT_EQ(alone.size(), kSteps);
  ASSERT_OK_AND_ASSIGN(const std::vector<double> handed, HandOver(arm64_, x86_64_));
  ExpectNear(handed, After(alone, kHandOver));
}

}  // namespace
}  // namespace studio
