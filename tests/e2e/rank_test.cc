// The trainer as a rank: what it and its agent say to each other (proto/studio/v1/trainer.proto).
#include <google/protobuf/text_format.h>
#include <poll.h>
#include <sys/socket.h>

#include <filesystem>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/framing/framing.h"
#include "common/job/job_rules.h"
#include "common/status/testing.h"
#include "proto/studio/v1/trainer.pb.h"
#include "tests/e2e/tiny_model.h"
#include "tests/e2e/trainer_run.h"

namespace studio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RankTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    ASSERT_OK(WriteTinyModel(folder_ + "/model"));
    ASSERT_OK(WriteRows(folder_ + "/rows.jsonl", 48));
    v1::Job job;
    job.set_name("tiny");
    job.mutable_dataset()->set_train_dataframe(folder_ + "/rows.jsonl");
    job.mutable_dataset()->set_packing(false);
    job.mutable_dataset()->set_validation_size(0.2);
    job.mutable_tokenizer()->set_max_length(96);
    job.mutable_architecture()->set_llm_backbone(folder_ + "/model");
    job.mutable_architecture()->set_pretrained(false);
    job.mutable_training()->set_max_steps(40);
    job.mutable_training()->set_eval_steps(1000000);
    job.mutable_training()->set_save_steps(1000);
    job.mutable_prediction()->set_max_length_inference(4);
    job.mutable_environment()->set_number_of_workers(1);
    *task_.mutable_job() = WithDefaults(job);
    task_.set_job_id("j7");
    task_.set_attempt(1);
    task_.set_epoch(3);
    task_.set_world_size(1);
    task_.set_out_dir(folder_ + "/out");
    task_.set_data_dir(folder_ + "/data");
  }

  void Start() {
    std::string text;
    google::protobuf::TextFormat::PrintToString(task_, &text);
    ASSERT_OK(WriteText(folder_ + "/task.pb.txt", text));
    run_ = std::make_unique<TrainerRun>(std::vector<std::string>{"--task", folder_ + "/task.pb.txt"}, true);
    decoder_ = FrameDecoder();
  }

  // Longer than any test: it ends by an order, however slow or fast the machine is.
  static constexpr int kManySteps = 1000000;
  void RunForLong() { task_.mutable_job()->mutable_training()->set_max_steps(kManySteps); }

  // The next event; empty at the end of the stream.
  std::optional<v1::TrainerUp> Next() {
    v1::TrainerUp event;
    while (true) {
      const absl::StatusOr<bool> found = decoder_.Next(event);
      EXPECT_OK(found);
      if (!found.ok()) return std::nullopt;
      if (*found) return event;
      pollfd_ = {run_->channel(), POLLIN, 0};
      poll(&pollfd_, 1, -1);
      char buffer[4096];
      const ssize_t got = recv(run_->channel(), buffer, sizeof(buffer), 0);
      if (got <= 0) return std::nullopt;
      decoder_.Append({buffer, static_cast<size_t>(got)});
    }
  }
  // Reads until an event that `wanted` accepts.
  template <typename Wanted>
  std::optional<v1::TrainerUp> NextThat(Wanted wanted) {
    std::optional<v1::TrainerUp> event = Next();
    while (event && !wanted(*event)) event = Next();
    return event;
  }
  std::vector<v1::TrainerUp> Rest() {
    std::vector<v1::TrainerUp> events;
    while (std::optional<v1::TrainerUp> event = Next()) events.push_back(*std::move(event));
    return events;
  }
  void Order(const v1::TrainerDown& order) { ASSERT_OK(WriteFrame(run_->channel(), order)); }
  bool WaitForStep(int64_t step) {
    return NextThat([&](const v1::TrainerUp& e) { return e.has_progress() && e.progress().step() >= step; })
        .has_value();
  }

  const std::string folder_ =
      absl::StrCat(testing::TempDir(), "/rank_", testing::UnitTest::GetInstance()->current_test_info()->name());
  v1::TrainerTask task_;
  std::unique_ptr<TrainerRun> run_;
  FrameDecoder decoder_;
  pollfd pollfd_;
};

TEST_F(RankTest, TellsItsAgentTheWholeStory) {
  Start();
  std::vector<v1::AttemptState> states;
  int64_t sequence = 0;
  int data = 0, evaluations = 0, samples = 0;
  int64_t last_step = 0;
  v1::TrainerUp last;
  for (const v1::TrainerUp& event : Rest()) {
    EXPECT_EQ(event.sequence(), ++sequence);
    if (event.has_state()) states.push_back(event.state());
    data += event.has_data();
    evaluations += event.has_evaluation();
    samples += event.has_sample();
    if (event.has_progress() && event.progress().step() > 0) {
      last_step = event.progress().step();
      EXPECT_EQ(event.progress().total_steps(), 40);
      EXPECT_TRUE(event.progress().has_time());
    }
    last = event;
  }
  EXPECT_EQ(run_->Wait(), 0) << run_->output();
  EXPECT_THAT(states, ElementsAre(v1::ATTEMPT_PREPARING, v1::ATTEMPT_STARTING, v1::ATTEMPT_RUNNING));
  EXPECT_EQ(data, 1);
  EXPECT_GE(evaluations, 2);
  EXPECT_EQ(samples, 2);
  EXPECT_EQ(last_step, 40);
  ASSERT_TRUE(last.has_finished()) << last.DebugString();
  EXPECT_FALSE(last.finished().stopped());
  ASSERT_GE(last.finished().result().files_size(), 2);
  for (const v1::FileRef& file : last.finished().result().files()) {
    EXPECT_EQ(std::filesystem::file_size(folder_ + "/out/result/" + file.path()), file.size_bytes());
  }
}

TEST_F(RankTest, CheckpointsWhenToldAndGoesOnFromThere) {
  RunForLong();
  Start();
  ASSERT_TRUE(WaitForStep(3));
  v1::TrainerDown order;
  order.mutable_checkpoint();
  Order(order);
  const auto written = NextThat([](const v1::TrainerUp& e) { return e.has_checkpoint(); });
  ASSERT_TRUE(written) << run_->output();
  EXPECT_EQ(written->checkpoint().job_id(), "j7");
  EXPECT_EQ(written->checkpoint().epoch(), 3);
  order.mutable_stop()->set_discard(true);
  Order(order);
  const auto finished = NextThat([](const v1::TrainerUp& e) { return e.has_finished(); });
  ASSERT_TRUE(finished);
  EXPECT_TRUE(finished->finished().stopped());
  EXPECT_EQ(run_->Wait(), 0);

  task_.set_resume_dir(absl::StrCat(folder_, "/out/checkpoints/step-", written->checkpoint().step()));
  task_.set_out_dir(folder_ + "/second");
  Start();
  const auto first = NextThat([](const v1::TrainerUp& e) { return e.has_progress() && e.progress().step() > 0; });
  ASSERT_TRUE(first) << run_->output();
  EXPECT_EQ(first->progress().step(), written->checkpoint().step() + 1);
  Order(order);
  Rest();
  EXPECT_EQ(run_->Wait(), 0) << run_->output();
}

TEST_F(RankTest, StopsWithACheckpointThatIsAnnouncedBeforeTheEnd) {
  RunForLong();
  Start();
  ASSERT_TRUE(WaitForStep(2));
  v1::TrainerDown order;
  order.mutable_stop()->set_reason(v1::WORKER_DRAINED);
  Order(order);
  int64_t checkpoint = 0;
  v1::TrainerUp last;
  for (const v1::TrainerUp& event : Rest()) {
    if (event.has_checkpoint()) checkpoint = event.checkpoint().step();
    last = event;
  }
  EXPECT_EQ(run_->Wait(), 0) << run_->output();
  EXPECT_GT(checkpoint, 1);
  EXPECT_LT(checkpoint, kManySteps);
  EXPECT_TRUE(last.finished().stopped());
  EXPECT_TRUE(std::filesystem::exists(absl::StrCat(folder_, "/out/checkpoints/step-", checkpoint, "/manifest.pb.txt")));
}

TEST_F(RankTest, KeepsCheckpointsUntilANewerOneIsRecorded) {
  task_.mutable_job()->mutable_training()->set_save_steps(10);
  task_.mutable_job()->mutable_training()->set_save_total_limit(1);
  Start();
  const auto is_checkpoint = [](const v1::TrainerUp& e) { return e.has_checkpoint(); };
  ASSERT_TRUE(NextThat(is_checkpoint));
  ASSERT_TRUE(NextThat(is_checkpoint));
  const std::string first = folder_ + "/out/checkpoints/step-10", second = folder_ + "/out/checkpoints/step-20";
  EXPECT_TRUE(std::filesystem::exists(first)) << "nobody recorded the second one yet";
  v1::TrainerDown order;
  order.set_recorded_step(20);
  Order(order);
  Rest();
  EXPECT_EQ(run_->Wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(first));
  EXPECT_TRUE(std::filesystem::exists(second));
}

TEST_F(RankTest, EndsAtOnceWhenItsEpochIsOver) {
  RunForLong();
  Start();
  ASSERT_TRUE(WaitForStep(1));
  v1::TrainerDown order;
  order.mutable_epoch_over();
  Order(order);
  EXPECT_EQ(run_->Wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/out/result"));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/out/summary.json"));
}

TEST_F(RankTest, EndsByItselfWhenItsAgentIsGone) {
  RunForLong();
  Start();
  ASSERT_TRUE(WaitForStep(1));
  shutdown(run_->channel(), SHUT_RDWR);
  EXPECT_EQ(run_->Wait(), 70);
}

TEST_F(RankTest, SaysWhyItFailedBeforeItEnds) {
  ASSERT_OK(WriteText(folder_ + "/model/tokenizer.json", "not json"));
  Start();
  const std::vector<v1::TrainerUp> events = Rest();
  EXPECT_EQ(run_->Wait(), 65);
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().failure().reason(), v1::BAD_INPUT);
  EXPECT_THAT(events.back().failure().message(), HasSubstr("tokenizer.json"));
  EXPECT_THAT(run_->output(), HasSubstr("tokenizer.json"));
}

TEST_F(RankTest, RefusesADamagedCheckpointByName) {
  ASSERT_OK(
      WriteText(folder_ + "/damaged/manifest.pb.txt", "step: 4 format_version: 1 shards { file { path: \"gone\" } }"));
  task_.set_resume_dir(folder_ + "/damaged");
  Start();
  const std::vector<v1::TrainerUp> events = Rest();
  EXPECT_EQ(run_->Wait(), 65);
  ASSERT_FALSE(events.empty());
  EXPECT_THAT(events.back().failure().message(), HasSubstr("damaged/gone"));
}

TEST_F(RankTest, NeedsASocket) {
  TrainerRun run({"--task", folder_ + "/none.pb.txt"});
  EXPECT_EQ(run.Wait(), 2);
  EXPECT_THAT(run.output(), HasSubstr("STUDIO_AGENT_FD"));
}

}  // namespace
}  // namespace studio
