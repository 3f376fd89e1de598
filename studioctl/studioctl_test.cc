// Commands from the arguments to the exit code, against a controller on a real gRPC server.
#include <google/protobuf/text_format.h>

#include <filesystem>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/artifact/sha256.h"
#include "common/artifact/test_folder.h"
#include "common/status/testing.h"
#include "studioctl/commands.h"
#include "studioctl/fake_controller.h"

namespace studio::ctl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

class StudioctlTest : public testing::Test {
 protected:
  // Runs studioctl against the controller, unless the arguments or the environment say otherwise.
  Outcome Run(std::vector<std::string> arguments, const std::string& input = "") {
    std::istringstream in(input);
    std::ostringstream out, err;
    Console console{in, out, err, interrupt_};
    console.is_terminal = is_terminal_;
    console.environment = [this](const std::string& name) { return environment_[name]; };
    Outcome outcome;
    outcome.code = RunStudioctl(std::move(arguments), console);
    outcome.out = out.str();
    outcome.err = err.str();
    return outcome;
  }
  std::string JobFile(const std::string& more = "") {
    folder_.Write("jobs/data/rows.jsonl", "{}\n");
    folder_.Write("jobs/model/config.json", "{\"model_type\": \"llama\"}");
    folder_.Write("jobs/model/model.safetensors", "weights");
    folder_.Write("jobs/model/tokenizer.json", "{}");
    folder_.Write("jobs/model/pytorch_model.bin", "not needed");
    folder_.Write("jobs/model/.git/config", "not needed");
    return folder_.Write("jobs/job.pb.txt",
                         "name: \"faq\"\ndataset { train_dataframe: \"data/rows.jsonl\" }\n"
                         "architecture { llm_backbone: \"model\" }\n" +
                             more);
  }
  void Submit() { ASSERT_EQ(Run({"submit", JobFile()}).code, 0); }
  void End(const std::string& id, v1::JobState state) {
    controller_.Change(id, [&](v1::JobRecord& record) { record.set_state(state); });
  }

  TestFolder folder_;
  FakeController controller_{folder_.Path("controller")};
  Interrupt interrupt_;
  bool is_terminal_ = false;
  std::map<std::string, std::string> environment_ = {{"STUDIO_CONTROLLER", controller_.address()}};
};

TEST_F(StudioctlTest, SubmitUploadsWhatATrainerReadsAndNothingElse) {
  const Outcome outcome = Run({"submit", JobFile()});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "j1 (faq) submitted\n");
  const v1::JobRecord job = controller_.Jobs().at(0);
  ASSERT_EQ(job.inputs_size(), 2);
  EXPECT_EQ(job.inputs(0).field(), "dataset.train_dataframe");
  EXPECT_TRUE(job.inputs(0).artifact().single_file());
  EXPECT_EQ(job.inputs(1).field(), "architecture.llm_backbone");
  EXPECT_EQ(job.inputs(1).artifact().uri(), "studio:");
  std::vector<std::string> paths;
  for (const v1::FileRef& file : job.inputs(1).artifact().files()) paths.push_back(file.path());
  EXPECT_THAT(paths, ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
  EXPECT_TRUE(controller_.store().Has(Sha256Hex("weights")));
  EXPECT_FALSE(controller_.store().Has(Sha256Hex("not needed")));
  // Defaults are the controller's affair: the job stays as written.
  EXPECT_FALSE(job.job().training().has_learning_rate());
}

TEST_F(StudioctlTest, SubmitAppliesSetsAndPassesUrisThrough) {
  const Outcome outcome = Run({"submit", "--set", "training.learning_rate=3e-4", "--set",
                               "architecture.llm_backbone=file:/shared/model", "-o", "name", JobFile()});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "j1\n");
  const v1::JobRecord job = controller_.Jobs().at(0);
  EXPECT_EQ(job.job().training().learning_rate(), 3e-4);
  ASSERT_EQ(job.inputs_size(), 1);
  EXPECT_EQ(job.inputs(0).field(), "dataset.train_dataframe");
}

TEST_F(StudioctlTest, SubmitFromTheInputTakesManyJobs) {
  JobFile();
  const std::string job =
      "name: \"a\" dataset { train_dataframe: \"file:/d\" } architecture { llm_backbone: \"file:/m\" }";
  const Outcome outcome = Run({"submit", "-"}, "---\n" + job + "\n---\n" + job + "\n---\n");
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "j1 (a) submitted\nj2 (a) submitted\n");
  const Outcome broken = Run({"submit", "-"}, job + "\n---\n" + job + "\nnoname: 1");
  EXPECT_EQ(broken.code, 105);
  EXPECT_THAT(broken.err, HasSubstr("<stdin>:4:1: unknown field 'noname'"));
  EXPECT_EQ(controller_.Jobs().size(), 2u);
}

TEST_F(StudioctlTest, ARepeatedRequestIdIsTheSameJob) {
  const std::string file = JobFile();
  EXPECT_EQ(Run({"submit", "--request-id", "r1", file}).out, "j1 (faq) submitted\n");
  EXPECT_EQ(Run({"submit", "--request-id", "r1", file}).out, "j1 (faq) was submitted before with this request id\n");
  EXPECT_EQ(Run({"submit", file}).out, "j2 (faq) submitted\n");
}

TEST_F(StudioctlTest, ALostAnswerMakesNoSecondJob) {
  const std::string file = JobFile();
  controller_.LoseAnswers(1);
  const Outcome outcome = Run({"submit", file});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("j1 (faq)"));
  EXPECT_THAT(outcome.err, HasSubstr("asking again with the same request id"));
  EXPECT_EQ(controller_.Jobs().size(), 1u);
}

TEST_F(StudioctlTest, RefusalsAre105AndNameThePlace) {
  const auto refused = [&](const std::string& more, std::vector<std::string> flags = {}) {
    std::vector<std::string> arguments = {"submit", JobFile(more)};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, 105) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(refused("traning { }"), HasSubstr("job.pb.txt:4:1: unknown field 'traning'"));
  EXPECT_THAT(refused("training { learning_rate: -1 }"),
              HasSubstr("job.pb.txt: training.learning_rate: -1 is out of range; accepted: above 0, at most 10"));
  EXPECT_THAT(refused("training { learning_rate: nan }"), HasSubstr("nan is not a finite number"));
  EXPECT_THAT(refused("", {"--set", "training.lora=perhaps"}), HasSubstr("'perhaps' is not true or false"));
  EXPECT_THAT(refused("", {"--set", "dataset.train_dataframe=gone.csv"}),
              HasSubstr("dataset.train_dataframe: " + folder_.Path("jobs/gone.csv") + " is not there"));
  EXPECT_THAT(refused("", {"--set", "architecture.llm_backbone=s3://b/m"}), HasSubstr("scheme 's3' is not known"));
  EXPECT_THAT(refused("", {"--set", "architecture.llm_backbone=data/rows.jsonl"}), HasSubstr("name the folder"));
  EXPECT_THAT(controller_.Jobs(), IsEmpty());
}

TEST_F(StudioctlTest, AJobFileThatCannotBeReadIsAnError) {
  EXPECT_EQ(Run({"submit", folder_.Path("gone.pb.txt")}).code, 1);
  EXPECT_THAT(Run({"submit", folder_.Path()}).err, HasSubstr("cannot be read"));
}

TEST_F(StudioctlTest, UsageErrorsAre2) {
  EXPECT_EQ(Run({}).code, 2);
  EXPECT_EQ(Run({"submit"}).code, 2);
  EXPECT_EQ(Run({"dance"}).code, 2);
  EXPECT_EQ(Run({"list", "-o", "xml"}).code, 2);
  EXPECT_EQ(Run({"list", "--state", "LOST"}).code, 2);
  const Outcome help = Run({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("104 controller unreachable"));
}

TEST_F(StudioctlTest, AnUnreachableControllerIs104AndNamed) {
  controller_.Stop();
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"list"}, {"get", "j1"}, {"watch", "j1"}, {"logs", "j1"}, {"submit", JobFile()}, {"version"}}) {
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, 104) << arguments[0];
    EXPECT_THAT(outcome.err, HasSubstr("the controller at " + controller_.address() + " cannot be reached"));
  }
}

TEST_F(StudioctlTest, AMissingJobIs102) {
  for (const char* command : {"get", "watch", "logs", "cancel", "retry", "download"}) {
    const Outcome outcome = Run({command, "j9"});
    EXPECT_EQ(outcome.code, 102) << command;
    EXPECT_EQ(outcome.err, "studioctl: there is no job j9\n") << command;
  }
}

TEST_F(StudioctlTest, ListShowsTheNewestFirstInEachForm) {
  Submit();
  Submit();
  EXPECT_THAT(Run({"list"}).out, StartsWith("ID  NAME  STATE    STEP  LOSS  AGE\nj2  faq   PENDING  -     -     "));
  EXPECT_THAT(Run({"list", "-o", "wide"}).out, HasSubstr("ATTEMPTS  WORKERS"));
  EXPECT_EQ(Run({"list", "-o", "name"}).out, "j2\nj1\n");
  EXPECT_EQ(Run({"list", "-o", "name", "--limit", "1"}).out, "j2\n");
  EXPECT_THAT(Run({"list", "--limit", "1"}).err, HasSubstr("--all"));
  EXPECT_EQ(Run({"list", "-o", "name", "--state", "succeeded"}).out, "");
  EXPECT_THAT(Run({"list", "-o", "json"}).out, HasSubstr("\"request_id\":"));
  EXPECT_THAT(Run({"list", "-o", "yaml"}).out, StartsWith("-\n  id: j2\n  job:\n    name: faq\n"));
  EXPECT_THAT(Run({"get", "j1", "-o", "yaml"}).out, StartsWith("id: j1\njob:\n  name: faq\n  dataset:\n"));
  environment_["STUDIO_OUTPUT"] = "name";
  EXPECT_EQ(Run({"list"}).out, "j2\nj1\n");
}

TEST_F(StudioctlTest, FlagsGoOverTheEnvironmentOverTheFile) {
  Submit();
  environment_["STUDIO_CONFIG"] =
      folder_.Write("config.pb.txt", "controller: \"" + controller_.address() + "\" output: \"name\"");
  environment_["STUDIO_CONTROLLER"] = "";
  EXPECT_EQ(Run({"list"}).out, "j1\n");
  environment_["STUDIO_CONTROLLER"] = "127.0.0.1:1";
  EXPECT_EQ(Run({"list"}).code, 104);
  EXPECT_EQ(Run({"--controller", controller_.address(), "list"}).out, "j1\n");
  EXPECT_EQ(Run({"list", "--controller", controller_.address()}).out, "j1\n");
  folder_.Write("config.pb.txt", "controler: \"x\"");
  const Outcome broken = Run({"list"});
  EXPECT_EQ(broken.code, 2);
  EXPECT_THAT(broken.err, HasSubstr("config.pb.txt:1:"));
}

TEST_F(StudioctlTest, GetDescribesAJob) {
  Submit();
  controller_.Change("j1", [](v1::JobRecord& record) {
    ASSERT_TRUE(google::protobuf::TextFormat::MergeFromString(
        "state: FAILED reason: DEVICE_OOM message: \"needs 80 GiB\" progress { step: 3 total_steps: 9 loss: 2.5 }"
        "attempts { number: 1 state: ATTEMPT_FAILED reason: DEVICE_OOM message: \"out of\\nmemory\" }"
        "evaluations { step: 0 loss: 3.65 }",
        &record));
  });
  const std::string text = Run({"get", "j1"}).out;
  EXPECT_THAT(text, HasSubstr("Job        j1 (faq)\nState      FAILED (DEVICE_OOM)\nMessage    needs 80 GiB\n"));
  EXPECT_THAT(text, HasSubstr("Step       3/9\n"));
  EXPECT_THAT(text, HasSubstr("Held-out   loss 3.6500 at step 0\n"));
  EXPECT_THAT(text, HasSubstr("Attempt    1: FAILED (DEVICE_OOM), out of memory\n"));
}

TEST_F(StudioctlTest, GetShowsHowBusyTheDevicesOfARunningJobAre) {
  Submit();
  controller_.Change("j1", [](v1::JobRecord& record) {
    ASSERT_TRUE(google::protobuf::TextFormat::MergeFromString(
        "state: RUNNING progress { step: 3 total_steps: 9 tokens_per_second: 1234.4 utilization: 0.968 }", &record));
  });
  const std::string text = Run({"get", "j1"}).out;
  EXPECT_THAT(text, HasSubstr("\nSpeed        1,234 tokens/s\nUtilization  97 %\n"));
  controller_.Change("j1", [](v1::JobRecord& record) { record.set_state(v1::SUCCEEDED); });
  EXPECT_THAT(Run({"get", "j1"}).out, Not(HasSubstr("Utilization")));
}

TEST_F(StudioctlTest, CancelAndRetry) {
  Submit();
  EXPECT_EQ(Run({"cancel", "j1"}).out, "j1 CANCELLED\n");
  EXPECT_EQ(Run({"cancel", "j1"}).code, 0);
  controller_.Change("j1", [](v1::JobRecord& record) { record.mutable_checkpoint()->set_step(40); });
  EXPECT_EQ(Run({"retry", "j1", "--request-id", "again"}).out, "j2 (faq) retries j1 from step 40\n");
  EXPECT_EQ(Run({"retry", "j1", "--request-id", "again", "-o", "name"}).out, "j2\n");
}

TEST_F(StudioctlTest, FollowEndsWithTheJobsOutcome) {
  const std::map<v1::JobState, int> codes = {{v1::SUCCEEDED, 0}, {v1::FAILED, 100}, {v1::CANCELLED, 103}};
  int number = 0;
  for (const auto& [state, code] : codes) {
    Outcome outcome;
    const std::string file = JobFile();
    std::thread follower([&] { outcome = Run({"submit", "--follow", file}); });
    controller_.WaitForWatchers(++number);
    controller_.Change("j" + std::to_string(number), [&, state = state](v1::JobRecord& record) {
      record.set_state(state);
      record.set_message("because");
      record.mutable_end_time()->set_seconds(record.submit_time().seconds() + 83);
    });
    follower.join();
    EXPECT_EQ(outcome.code, code);
    EXPECT_THAT(state == v1::SUCCEEDED ? outcome.out : outcome.err,
                HasSubstr(v1::JobState_Name(state) + " after 1m23s"));
  }
}

TEST_F(StudioctlTest, FollowPrintsPlainLinesWhereThereIsNoTerminal) {
  Submit();
  Outcome outcome;
  std::thread follower([&] { outcome = Run({"watch", "j1"}); });
  controller_.WaitForWatchers(1);
  const auto point = [](int step, int seconds) {
    v1::Progress progress;
    progress.set_step(step);
    progress.set_total_steps(4);
    progress.set_loss(4.0 - step);
    progress.set_tokens_per_second(1234);
    progress.mutable_time()->set_seconds(1000 + seconds);
    return progress;
  };
  controller_.Change("j1",
                     [&](v1::JobRecord& record) {
                       record.set_state(v1::SUCCEEDED);
                       *record.mutable_progress() = point(4, 21);
                       record.add_notes("bf16 is not here: fp32");
                       record.add_evaluations()->set_loss(3.5);
                     },
                     {point(1, 0), point(2, 1), point(3, 20)});
  follower.join();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("j1 step 1/4  loss 3.000  1,234 tokens/s\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("step 2/4")));  // a second after the one before
  EXPECT_THAT(outcome.out, HasSubstr("j1 step 3/4"));
  EXPECT_THAT(outcome.out, HasSubstr("j1 step 4/4"));  // the last one always
  EXPECT_THAT(outcome.out, HasSubstr("note: bf16 is not here: fp32\n"));
  EXPECT_THAT(outcome.out, HasSubstr("step 0: held-out loss 3.5000\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("\x1b")));
}

TEST_F(StudioctlTest, FollowSurvivesARestartOfTheController) {
  Submit();
  Outcome outcome;
  std::thread follower([&] { outcome = Run({"watch", "j1"}); });
  controller_.WaitForWatchers(1);
  controller_.Change("j1", [](v1::JobRecord& record) { record.set_state(v1::RUNNING); });
  controller_.Stop();
  controller_.Start();
  controller_.WaitForWatchers(2);
  End("j1", v1::SUCCEEDED);
  follower.join();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("waiting for it"));
  EXPECT_THAT(outcome.out, HasSubstr("the controller is back"));
}

TEST_F(StudioctlTest, FollowGivesUpOnAControllerThatStaysAway) {
  Submit();
  Outcome outcome;
  std::thread follower([&] { outcome = Run({"watch", "--patience", "0", "j1"}); });
  controller_.WaitForWatchers(1);
  controller_.Stop();
  follower.join();
  EXPECT_EQ(outcome.code, 104);
}

TEST_F(StudioctlTest, CtrlCLeavesTheJobAlone) {
  Submit();
  Outcome outcome;
  std::thread follower([&] { outcome = Run({"watch", "j1"}); });
  controller_.WaitForWatchers(1);
  interrupt_.Raise();
  follower.join();
  EXPECT_EQ(outcome.code, 101);
  EXPECT_THAT(outcome.err, HasSubstr("j1 goes on"));
  EXPECT_EQ(controller_.Jobs()[0].state(), v1::PENDING);
}

TEST_F(StudioctlTest, LogsComeWholeOverABrokenConnection) {
  Submit();
  controller_.AppendLog("j1", "step 1\nstep 2\n");
  controller_.BreakLogsAfter(9);
  Outcome outcome;
  std::thread reader([&] { outcome = Run({"logs", "-f", "j1"}); });
  controller_.AppendLog("j1", "step 3\n");
  End("j1", v1::SUCCEEDED);
  reader.join();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "step 1\nstep 2\nstep 3\n");
  EXPECT_EQ(Run({"logs", "j1"}).out, "step 1\nstep 2\nstep 3\n");
}

// As a controller does with who reads too slowly.
TEST_F(StudioctlTest, LogsGoOnWhereTheControllerDroppedThem) {
  Submit();
  controller_.AppendLog("j1", "step 1\nstep 2\n");
  controller_.BreakLogsAfter(9, grpc::StatusCode::CANCELLED);
  End("j1", v1::SUCCEEDED);
  const Outcome outcome = Run({"logs", "-f", "j1"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "step 1\nstep 2\n");
}

TEST_F(StudioctlTest, DownloadBringsTheResultHome) {
  Submit();
  EXPECT_EQ(Run({"download", "j1"}).code, 101);
  const std::string path = folder_.Write("adapter", "abc");
  ASSERT_OK_AND_ASSIGN(const v1::FileRef file,
                       controller_.store().Add(path, "adapter/adapter_model.safetensors", ContentStore::Mode::kCopy));
  controller_.Change("j1", [&](v1::JobRecord& record) {
    record.set_state(v1::SUCCEEDED);
    record.mutable_result()->set_uri("studio:");
    *record.mutable_result()->add_files() = file;
  });
  const Outcome outcome = Run({"download", "j1", "-o", folder_.Path("home")});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, folder_.Path("home") + "\n");
  EXPECT_EQ(folder_.Read("home/adapter/adapter_model.safetensors"), "abc");
  EXPECT_EQ(Run({"download", "j1", "--out", folder_.Path("home")}).code, 0);

  std::filesystem::current_path(folder_.Path("."));
  EXPECT_EQ(Run({"download", "j1"}).out, "j1\n");
  controller_.Change("j1",
                     [&](v1::JobRecord& record) { record.mutable_job()->mutable_export_()->set_name("support"); });
  EXPECT_EQ(Run({"download", "j1"}).out, "support\n");
  EXPECT_EQ(folder_.Read("support/adapter/adapter_model.safetensors"), "abc");
  ASSERT_OK(controller_.store().Remove(file.sha256()));
  EXPECT_EQ(Run({"download", "j1", "-o", folder_.Path("elsewhere")}).code, 1);
  End("j1", v1::FAILED);
  controller_.Change("j1", [&](v1::JobRecord& record) { record.clear_result(); });
  EXPECT_EQ(Run({"download", "j1"}).code, 100);
}

TEST_F(StudioctlTest, AResultThatNamesPathsOutsideTheFolderIsRefused) {
  Submit();
  ASSERT_OK_AND_ASSIGN(v1::FileRef file,
                       controller_.store().Add(folder_.Write("x", "abc"), "x", ContentStore::Mode::kCopy));
  file.set_path("../evil");
  controller_.Change("j1", [&](v1::JobRecord& record) {
    record.mutable_result()->set_uri("studio:");
    *record.mutable_result()->add_files() = file;
  });
  EXPECT_NE(Run({"download", "j1", "-o", folder_.Path("home")}).code, 0);
  EXPECT_FALSE(folder_.Has("evil"));
}

TEST_F(StudioctlTest, ConfirmsThatAWorkerIsDead) {
  controller_.AddWorker().set_id("w1");
  EXPECT_EQ(Run({"workers", "confirm-dead", "w1"}).out, "w1 is dead; its jobs start anew\n");
  EXPECT_NE(Run({"workers", "confirm-dead", "w9"}).code, kDone);
  EXPECT_EQ(Run({"workers", "confirm-dead"}).code, kUsage);
}

TEST_F(StudioctlTest, WorkersAndVersion) {
  v1::WorkerRecord& worker = controller_.AddWorker();
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "id: \"w1\" connected: true inventory { hostname: \"gh200\" arch: ARM64 devices { name: \"GH200 480GB\" "
      "total_memory_bytes: 102005473280 } } job_ids: \"j1\"",
      &worker));
  EXPECT_EQ(Run({"workers"}).out,
            "ID  STATE  HOST   ARCH   DEVICES          MEMORY    JOBS  SEEN\n"
            "w1  READY  gh200  ARM64  1 × GH200 480GB  95.0 GiB  j1    -\n");
  EXPECT_EQ(Run({"workers", "-o", "name"}).out, "w1\n");
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "id: \"w1\" connected: true inventory { hostname: \"gh200\" arch: ARM64 backend: CUDA os: \"Linux\" features: "
      "\"bf16\" "
      "features: \"nccl\" notes: \"odd\" libtorch_version: \"2.11\" devices { name: \"GH200 480GB\" "
      "total_memory_bytes: 102005473280 allocatable_memory_bytes: 51002736640 compute_capability: \"9.0\" driver: "
      "\"13.0\" unified_memory: true } }",
      &worker));
  EXPECT_EQ(Run({"workers", "-o", "wide"}).out,
            "ID  STATE  HOST   ARCH   DEVICES          MEMORY    JOBS  SEEN  BACKEND  CAPABILITY  DRIVER  UNIFIED  "
            "ALLOCATABLE  FEATURES   OS     VERSION  LIBTORCH  ROOTS  NOTES\n"
            "w1  READY  gh200  ARM64  1 × GH200 480GB  95.0 GiB  -     -     CUDA     9.0         13.0    yes      "
            "47.5 GiB     bf16,nccl  Linux           2.11      -      odd\n");
  EXPECT_THAT(Run({"version"}).out, HasSubstr("controller  0.1.0 at " + controller_.address()));
  EXPECT_THAT(Run({"version", "-o", "json"}).out, HasSubstr("\"max_blob_bytes\": \"1073741824\""));
}

TEST_F(StudioctlTest, AsksNothingOfAControllerThatSpeaksAnotherProtocol) {
  Submit();
  for (const auto& [protocol, who] : {std::pair(0, "the controller at "), std::pair(2, "this studioctl")}) {
    controller_.SpeakProtocol(protocol, protocol);
    for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{
             {"list"}, {"get", "j1"}, {"submit", JobFile()}, {"watch", "j1"}, {"logs", "j1"}, {"cancel", "j1"}}) {
      const Outcome outcome = Run(command);
      EXPECT_EQ(outcome.code, kError) << command[0];
      EXPECT_THAT(outcome.err, HasSubstr("speaks protocol " + std::to_string(protocol))) << command[0];
      EXPECT_THAT(outcome.err, HasSubstr(std::string("this studioctl 1 to 1: upgrade ") + who)) << command[0];
    }
  }
  EXPECT_EQ(Run({"version"}).code, 0);  // says what is there
  EXPECT_EQ(controller_.Jobs().size(), 1);
}

TEST(StudioctlLimits, ATooLargeFileIsNamedBeforeAnythingIsSent) {
  const TestFolder folder;
  ContentStore::Options options;
  options.max_blob_bytes = 5;
  FakeController controller(folder.Path("controller"), options);
  const std::string job = folder.Write(
      "job.pb.txt", "name: \"a\" dataset { train_dataframe: \"rows\" } architecture { llm_backbone: \"file:/m\" }");
  folder.Write("rows", "123456");
  Interrupt interrupt;
  std::istringstream in;
  std::ostringstream out, err;
  Console console{in, out, err, interrupt};
  console.environment = [](const std::string&) { return std::string(); };
  EXPECT_EQ(RunStudioctl({"submit", job, "--controller", controller.address()}, console), 105);
  EXPECT_THAT(err.str(), HasSubstr("rows has 6 bytes, the controller takes files up to 5"));
}

}  // namespace
}  // namespace studio::ctl
