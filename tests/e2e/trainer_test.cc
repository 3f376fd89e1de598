// The trainer alone, from a job's text to a result, as a process.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "common/status/testing.h"
#include "tests/e2e/tiny_model.h"
#include "tests/e2e/trainer_run.h"

namespace studio {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    ASSERT_OK(WriteTinyModel(folder_ + "/model"));
    ASSERT_OK(WriteRows(folder_ + "/rows.jsonl", 48));
    ASSERT_OK(WriteText(folder_ + "/job.pb.txt", kJob));
  }

  static constexpr char kJob[] = R"(
name: "tiny"
dataset { train_dataframe: "rows.jsonl" validation_size: 0.2 }
tokenizer { max_length: 96 }
architecture { llm_backbone: "model" pretrained: false }
training { learning_rate: 0.01 epochs: 10 batch_size: 2 grad_accumulation: 2 lora_r: 4 }
prediction { max_length_inference: 8 }
environment { mixed_precision_dtype: FLOAT32 number_of_workers: 1 }
)";

  std::vector<std::string> Arguments(const std::string& out, std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"--job",      folder_ + "/job.pb.txt", "--out", folder_ + "/" + out,
                                          "--data-dir", folder_ + "/data"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  nlohmann::json Summary(const std::string& out) const {
    return nlohmann::json::parse(ReadText(folder_ + "/" + out + "/summary.json"));
  }

  void ExpectRefused(const std::vector<std::string>& set, const testing::Matcher<std::string>& message) {
    std::vector<std::string> more;
    for (const std::string& assignment : set) more.insert(more.end(), {"--set", assignment});
    TrainerRun run(Arguments("refused", more));
    EXPECT_EQ(run.Wait(), 65) << run.output();
    EXPECT_THAT(run.output(), message);
  }

  const std::string folder_ =
      absl::StrCat(testing::TempDir(), "/", testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(TrainerTest, LearnsAndLeavesAnAdapter) {
  TrainerRun run(Arguments("out"));
  ASSERT_EQ(run.Wait(), 0) << run.output();
  const nlohmann::json summary = Summary("out");
  EXPECT_LT(summary["eval_loss_after"], 0.8 * summary["eval_loss_before"].get<double>());
  EXPECT_EQ(summary["losses"].size(), summary["total_steps"]);
  EXPECT_LT(summary["losses"].back(), summary["losses"].front());
  EXPECT_GT(summary["tokens_per_second"], 0);
  EXPECT_GT(summary["peak_memory_bytes"], 1 << 20);
  EXPECT_EQ(summary["samples"].size(), 2) << "one prompt, before and after";
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/out/result/adapter_config.json"));
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/out/result/adapter_model.safetensors"));
  EXPECT_THAT(run.output(), AllOf(HasSubstr("held-out loss"), HasSubstr("tokens/s"), HasSubstr("result in ")));
}

TEST_F(TrainerTest, GivesTheSameBitsTwice) {
  for (const char* out : {"first", "second"}) {
    TrainerRun run(Arguments(out));
    ASSERT_EQ(run.Wait(), 0) << run.output();
  }
  EXPECT_EQ(Summary("first")["losses"], Summary("second")["losses"]);
  EXPECT_EQ(ReadText(folder_ + "/first/result/adapter_model.safetensors"),
            ReadText(folder_ + "/second/result/adapter_model.safetensors"));
}

TEST_F(TrainerTest, GivesTheSameBitsWhereverItIsKilled) {
  const std::vector<std::string> length = {"--set", "training.max_steps=300", "--set", "training.eval_steps=1000"};
  TrainerRun whole(Arguments("whole", length));
  ASSERT_EQ(whole.Wait(), 0) << whole.output();

  // A checkpoint after every step: a kill right after a step's line mostly falls inside a write.
  std::vector<std::string> first = Arguments("killed", {"--set", "training.save_steps=1"});
  first.insert(first.end(), length.begin(), length.end());
  std::vector<std::string> resumed = first;
  resumed.insert(resumed.end(), {"--resume", folder_ + "/killed"});

  std::mt19937 random(20240607);
  constexpr int kKills = 10;
  bool any_checkpoint = false;
  for (int kills = 0; kills < kKills; ++kills) {
    TrainerRun run(any_checkpoint ? resumed : first);
    // Some lines on, or at the very start, while it prepares or loads.
    for (int lines = std::uniform_int_distribution<int>(0, 6)(random); lines > 0; --lines) {
      run.WaitForLine(lines % 2 == 0 ? "step " : "checkpoint of step");
    }
    run.Kill(SIGKILL);
    ASSERT_EQ(run.Wait(), -SIGKILL) << "it ended before it could be killed:\n" << run.output();
    any_checkpoint |= run.output().find("checkpoint of step") != std::string::npos;
  }
  ASSERT_TRUE(any_checkpoint);
  TrainerRun last(resumed);
  ASSERT_EQ(last.Wait(), 0) << last.output();

  const nlohmann::json a = Summary("whole"), b = Summary("killed");
  EXPECT_GT(b["first_step"], 0);
  EXPECT_EQ(a["losses"].back(), b["losses"].back());
  EXPECT_EQ(a["eval_loss_before"], b["eval_loss_before"]);
  EXPECT_EQ(a["eval_loss_after"], b["eval_loss_after"]);
  EXPECT_EQ(a["tokens_seen"], b["tokens_seen"]);
  EXPECT_EQ(a["samples"], b["samples"]);
  EXPECT_EQ(ReadText(folder_ + "/killed/result/adapter_model.safetensors"),
            ReadText(folder_ + "/whole/result/adapter_model.safetensors"));
}

TEST_F(TrainerTest, StopsGentlyAtASignalAndGoesOn) {
  // So many steps that the signal comes before the last one, however slow this process is.
  const std::vector<std::string> length = {"--set", "training.max_steps=2000", "--set", "training.eval_steps=10000"};
  TrainerRun run(Arguments("out", length));
  ASSERT_TRUE(run.WaitForLine("step 5/")) << run.output();
  run.Kill(SIGTERM);
  ASSERT_EQ(run.Wait(), 0) << run.output();
  EXPECT_THAT(run.output(), AllOf(HasSubstr("stopped"), HasSubstr("--resume")));
  EXPECT_TRUE(Summary("out")["stopped"]);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/out/result"));
  const int steps = Summary("out")["steps"];

  TrainerRun again(Arguments("out", length));
  EXPECT_EQ(again.Wait(), 65);
  EXPECT_THAT(again.output(), HasSubstr("--resume")) << "checkpoints are never overwritten by a fresh run";

  std::vector<std::string> resume = length;
  resume.insert(resume.end(), {"--resume", folder_ + "/out"});
  TrainerRun resumed(Arguments("out", resume));
  ASSERT_EQ(resumed.Wait(), 0) << resumed.output();
  EXPECT_EQ(Summary("out")["first_step"], steps);
  EXPECT_EQ(Summary("out")["steps"], 2000);
}

TEST_F(TrainerTest, KeepsTheNewestCheckpointsAlone) {
  TrainerRun run(Arguments("out", {"--set", "training.save_steps=2", "--set", "training.save_total_limit=3"}));
  ASSERT_EQ(run.Wait(), 0) << run.output();
  int kept = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_ + "/out/checkpoints")) ++kept;
  EXPECT_EQ(kept, 3);
}

TEST_F(TrainerTest, RefusesAnotherRunsCheckpoint) {
  TrainerRun run(Arguments("out", {"--set", "training.save_steps=4"}));
  ASSERT_EQ(run.Wait(), 0) << run.output();
  TrainerRun other(Arguments("out", {"--set", "training.learning_rate=0.02", "--resume", folder_ + "/out"}));
  EXPECT_EQ(other.Wait(), 65);
  EXPECT_THAT(other.output(), AllOf(HasSubstr("training.learning_rate"), HasSubstr("0.02")));
}

TEST_F(TrainerTest, TrainsEveryWeightAndItsExportTrainsOn) {
  TrainerRun full(Arguments("full", {"--set", "training.lora=false"}));
  ASSERT_EQ(full.Wait(), 0) << full.output();
  EXPECT_LT(Summary("full")["eval_loss_after"], 0.8 * Summary("full")["eval_loss_before"].get<double>());
  ASSERT_TRUE(std::filesystem::exists(folder_ + "/full/result/model.safetensors"));

  // The result is a backbone like any other: the next run begins where this one ended.
  TrainerRun next(Arguments("next", {"--set", "architecture.pretrained=true", "--set",
                                     "architecture.llm_backbone=full/result", "--set", "training.epochs=1"}));
  ASSERT_EQ(next.Wait(), 0) << next.output();
  EXPECT_NEAR(Summary("next")["eval_loss_before"].get<double>(), Summary("full")["eval_loss_after"].get<double>(),
              1e-4);
}

TEST_F(TrainerTest, SaysWhatItTrainedOn) {
  TrainerRun run(Arguments("out", {"--dump-batches", folder_ + "/batches.json", "--set", "dataset.packing=false"}));
  ASSERT_EQ(run.Wait(), 0) << run.output();
  std::ifstream file(folder_ + "/batches.json");
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    const nlohmann::json step = nlohmann::json::parse(line);
    EXPECT_EQ(step["step"], lines);
    EXPECT_GE(step["micro_batches"].size(), 1);
    EXPECT_EQ(step["micro_batches"][0]["cu_seqlens"].size(), 3) << "two examples a micro batch";
  }
  EXPECT_EQ(lines, Summary("out")["total_steps"]);
}

TEST_F(TrainerTest, GivesTheSameLossesHoweverTheBatchIsCut) {
  // Dropout too: its masks are named by the token's place in the global batch.
  const std::vector<std::string> common = {"--set", "training.max_steps=6", "--set", "training.lora_dropout=0.2"};
  std::vector<std::string> wide = {"--set", "training.batch_size=4", "--set", "training.grad_accumulation=1"};
  std::vector<std::string> narrow = {"--set", "training.batch_size=1",
                                     "--set", "training.grad_accumulation=4",
                                     "--set", "architecture.gradient_checkpointing=true",
                                     "--set", "prediction.batch_size_inference=3"};
  wide.insert(wide.end(), common.begin(), common.end());
  narrow.insert(narrow.end(), common.begin(), common.end());
  TrainerRun first(Arguments("wide", wide)), second(Arguments("narrow", narrow));
  ASSERT_EQ(first.Wait(), 0) << first.output();
  ASSERT_EQ(second.Wait(), 0) << second.output();
  const std::vector<double> a = Summary("wide")["losses"], b = Summary("narrow")["losses"];
  ASSERT_EQ(a.size(), 6);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5) << "step " << i;
  EXPECT_NEAR(Summary("wide")["eval_loss_after"].get<double>(), Summary("narrow")["eval_loss_after"].get<double>(),
              1e-5);
}

TEST_F(TrainerTest, PlannedStepTrainsAsTheReferenceDoes) {
  const std::vector<std::string> common = {"--set", "training.max_steps=20", "--set",
                                           "dataset.mask_prompt_labels=true"};
  for (const char* step : {"autograd", "planned"}) {
    std::vector<std::string> more = {"--step", step};
    more.insert(more.end(), common.begin(), common.end());
    TrainerRun run(Arguments(step, more));
    ASSERT_EQ(run.Wait(), 0) << run.output();
    EXPECT_THAT(run.output(), HasSubstr(absl::StrCat("training step: ", step)));
  }
  const std::vector<double> a = Summary("autograd")["losses"], b = Summary("planned")["losses"];
  ASSERT_EQ(a.size(), 20);
  EXPECT_LT(a.back(), 0.9 * a.front());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(b[i] / a[i], 1, 1e-4) << "step " << i;
  // Its adapter is an adapter like any other, and the model behind it is the same.
  EXPECT_NEAR(Summary("planned")["eval_loss_after"].get<double>(), Summary("autograd")["eval_loss_after"].get<double>(),
              1e-3);
}

TEST_F(TrainerTest, PlannedStepGoesOnFromItsCheckpointBitByBit) {
  const std::vector<std::string> common = {
      "--step", "planned", "--set", "training.max_steps=12", "--set", "training.save_steps=4"};
  TrainerRun whole(Arguments("whole", common));
  ASSERT_EQ(whole.Wait(), 0) << whole.output();
  std::vector<std::string> resume = common;
  resume.insert(resume.end(), {"--resume", folder_ + "/whole/checkpoints/step-8"});
  TrainerRun rest(Arguments("rest", resume));
  ASSERT_EQ(rest.Wait(), 0) << rest.output();
  EXPECT_EQ(Summary("rest")["first_step"], 8);
  EXPECT_EQ(Summary("rest")["losses"].back(), Summary("whole")["losses"].back());
  EXPECT_EQ(ReadText(folder_ + "/rest/result/adapter_model.safetensors"),
            ReadText(folder_ + "/whole/result/adapter_model.safetensors"));
}

// backbone_dtype by name: nothing is kept in fp32, and what a step makes of a weight is rounded by chance.
TEST_F(TrainerTest, EveryWeightInBfloat16TrainsByBothStepsAndGoesOnFromItsCheckpoint) {
  const std::vector<std::string> common = {"--set", "training.lora=false",
                                           "--set", "architecture.backbone_dtype=BFLOAT16",
                                           "--set", "environment.mixed_precision_dtype=BFLOAT16",
                                           "--set", "training.max_steps=12",
                                           "--set", "training.save_steps=8"};
  const auto train = [&](const std::string& out, std::vector<std::string> more) {
    more.insert(more.end(), common.begin(), common.end());
    TrainerRun run(Arguments(out, more));
    ASSERT_EQ(run.Wait(), 0) << run.output();
    EXPECT_THAT(run.output(), HasSubstr(absl::StrCat("training step: ", more[1])));
  };
  train("autograd", {"--step", "autograd"});
  train("planned", {"--step", "planned"});
  const std::vector<double> a = Summary("autograd")["losses"], b = Summary("planned")["losses"];
  ASSERT_EQ(a.size(), 12);
  EXPECT_LT(b.back(), 0.9 * b.front());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(b[i] / a[i], 1, 0.02) << "step " << i;
  train("rest", {"--step", "planned", "--resume", folder_ + "/planned/checkpoints/step-8"});
  EXPECT_EQ(Summary("rest")["losses"].back(), b.back());
  EXPECT_EQ(ReadText(folder_ + "/rest/result/model.safetensors"),
            ReadText(folder_ + "/planned/result/model.safetensors"));
}

// Recorded micro batches, and losses that are read a step late: what comes out is the same, and in the same order.
TEST_F(TrainerTest, WorkingAheadOfTheDeviceChangesNoBits) {
  for (const char* step : {"planned", "autograd"}) {
    for (const char* ahead : {"on", "off"}) {
      TrainerRun run(
          Arguments(absl::StrCat(step, ahead), {"--step", step, "--ahead", ahead, "--set", "training.max_steps=12",
                                                "--set", "training.save_steps=5", "--set", "training.eval_steps=4"}));
      ASSERT_EQ(run.Wait(), 0) << run.output();
    }
    const auto on = Summary(absl::StrCat(step, "on")), off = Summary(absl::StrCat(step, "off"));
    ASSERT_EQ(on["losses"].size(), 12);
    EXPECT_EQ(on["losses"], off["losses"]);
    EXPECT_EQ(on["step_tokens"], off["step_tokens"]);
    EXPECT_EQ(on["step_seconds"].size(), 12);
    EXPECT_EQ(on["eval_loss_after"], off["eval_loss_after"]);
    EXPECT_EQ(ReadText(absl::StrCat(folder_, "/", step, "on/result/adapter_model.safetensors")),
              ReadText(absl::StrCat(folder_, "/", step, "off/result/adapter_model.safetensors")));
  }
}

TEST_F(TrainerTest, PlannedStepSaysWhatItLacks) {
  TrainerRun run(Arguments("out", {"--step", "planned", "--set", "augmentation.neftune_noise_alpha=5"}));
  EXPECT_EQ(run.Wait(), 65);
  EXPECT_THAT(run.output(), AllOf(HasSubstr("neftune_noise_alpha 5"), HasSubstr("--step auto")));
}

TEST_F(TrainerTest, SamplesByTheSeedAlone) {
  const std::vector<std::string> more = {"--set", "training.max_steps=2",
                                         "--set", "prediction.do_sample=true",
                                         "--set", "prediction.sample_prompts=1 + 1,2 + 2"};
  for (const char* out : {"first", "second"}) {
    TrainerRun run(Arguments(out, more));
    ASSERT_EQ(run.Wait(), 0) << run.output();
  }
  ASSERT_EQ(Summary("first")["samples"].size(), 4) << "two prompts, before and after";
  EXPECT_EQ(Summary("first")["samples"], Summary("second")["samples"]);
  EXPECT_EQ(Summary("first")["samples"][1]["prompt"], "2 + 2");
}

TEST_F(TrainerTest, DivergesLoudly) {
  for (const char* ahead : {"off", "on"}) {
    TrainerRun run(
        Arguments(ahead, {"--ahead", ahead, "--set", "training.learning_rate=10", "--set", "training.gradient_clip=0",
                          "--set", "training.weight_decay=10", "--set", "training.epochs=400"}));
    EXPECT_EQ(run.Wait(), 70) << run.output();
    EXPECT_THAT(run.output(), AllOf(HasSubstr("DIVERGED: step "), HasSubstr("training.learning_rate")));
  }
}

// Bad input: exit code 65, and a message that names the thing.

TEST_F(TrainerTest, RefusesAConfigThatIsNotJson) {
  ASSERT_OK(WriteText(folder_ + "/model/config.json", "{\"model_type\": "));
  ExpectRefused({}, HasSubstr("config.json"));
}

TEST_F(TrainerTest, RefusesAnUnsupportedModelType) {
  ASSERT_OK(WriteText(folder_ + "/model/config.json", R"({"model_type": "perceiver"})"));
  ExpectRefused({}, AllOf(HasSubstr("config.json"), HasSubstr("perceiver"), HasSubstr("llama")));
}

TEST_F(TrainerTest, RefusesTruncatedWeights) {
  TrainerRun full(Arguments("full", {"--set", "training.lora=false", "--set", "training.max_steps=1"}));
  ASSERT_EQ(full.Wait(), 0) << full.output();
  const std::string weights = ReadText(folder_ + "/full/result/model.safetensors");
  ASSERT_OK(WriteText(folder_ + "/model/model.safetensors", weights.substr(0, weights.size() / 2)));
  ExpectRefused({"architecture.pretrained=true"}, HasSubstr("model.safetensors"));
  ASSERT_OK(WriteText(folder_ + "/model/model.safetensors", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10)));
  ExpectRefused({"architecture.pretrained=true"}, HasSubstr("model.safetensors"));
}

TEST_F(TrainerTest, RefusesABackboneWithoutWeights) {
  ExpectRefused({"architecture.pretrained=true"}, HasSubstr("safetensors"));
}

TEST_F(TrainerTest, RefusesATokenizerThatIsNotJson) {
  ASSERT_OK(WriteText(folder_ + "/model/tokenizer.json", "not json"));
  ExpectRefused({}, HasSubstr("tokenizer.json"));
}

TEST_F(TrainerTest, RefusesDataWithoutRows) {
  ASSERT_OK(WriteText(folder_ + "/rows.jsonl", ""));
  ExpectRefused({}, HasSubstr("rows.jsonl"));
}

TEST_F(TrainerTest, RefusesDataWithoutAnAnswer) {
  ASSERT_OK(WriteText(folder_ + "/rows.jsonl", "{\"instruction\": \"1 + 1\", \"output\": \"\"}\n"));
  ExpectRefused({}, HasSubstr("answer"));
}

TEST_F(TrainerTest, RefusesTextThatIsNotUtf8) {
  ASSERT_OK(WriteText(folder_ + "/rows.jsonl", "{\"instruction\": \"1\", \"output\": \"\xff\xfe\"}\n"));
  ExpectRefused({}, AllOf(HasSubstr("rows.jsonl"), HasSubstr("UTF-8")));
}

TEST_F(TrainerTest, RefusesRowsLongerThanTheContext) {
  ExpectRefused({"tokenizer.max_length=512"}, AllOf(HasSubstr("max_length"), HasSubstr("512"), HasSubstr("256")));
}

TEST_F(TrainerTest, RefusesLearningRatesThatAreNone) {
  ExpectRefused({"training.learning_rate=nan"}, HasSubstr("training.learning_rate"));
  ExpectRefused({"training.learning_rate=-1"}, HasSubstr("training.learning_rate"));
}

TEST_F(TrainerTest, RefusesAMissingFile) {
  ExpectRefused({"dataset.train_dataframe=none.jsonl"},
                AllOf(HasSubstr("dataset.train_dataframe"), HasSubstr("none.jsonl")));
}

TEST_F(TrainerTest, RefusesABackendThatIsNotHere) {
  ExpectRefused({"resources.backend=CUDA"}, HasSubstr("CUDA was asked for"));
}

TEST_F(TrainerTest, RefusesAnUnknownField) {
  ASSERT_OK(WriteText(folder_ + "/job.pb.txt", absl::StrCat(kJob, "learning_rat: 1\n")));
  ExpectRefused({}, AllOf(HasSubstr("job.pb.txt:"), HasSubstr("learning_rat")));
}

TEST_F(TrainerTest, RefusesAnAdapterOfAFullFineTuning) {
  ExpectRefused({"export.format=ADAPTER", "training.lora=false"}, HasSubstr("export.format"));
}

}  // namespace
}  // namespace studio
