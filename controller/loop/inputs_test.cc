#include "controller/loop/inputs.h"

#include "common/status/testing.h"

namespace studio::controller {
namespace {

using testing::HasSubstr;

v1::Job Job(const std::string& rows) {
  v1::Job job;
  job.mutable_dataset()->set_train_dataframe(rows);
  return job;
}

v1::Input Input(const std::string& field, const std::string& uri = "studio:") {
  v1::Input input;
  input.set_field(field);
  input.mutable_artifact()->set_uri(uri);
  v1::FileRef& file = *input.mutable_artifact()->add_files();
  file.set_path("rows.jsonl");
  file.set_sha256(std::string(64, 'a'));
  file.set_size_bytes(3);
  return input;
}

TEST(Inputs, AcceptsContentsAndSharedFiles) {
  EXPECT_OK(CheckInputs(Job("rows.jsonl"), {Input("dataset.train_dataframe")}));
  EXPECT_OK(CheckInputs(Job("file:/shared/rows.jsonl"), {}));
  EXPECT_OK(CheckInputs(Job("rows.jsonl"), {Input("dataset.train_dataframe", "file:/shared/rows.jsonl")}));
}

TEST(Inputs, RefusesWhatAWorkerCouldNotOrMustNotOpen) {
  const std::string field = "dataset.train_dataframe";
  struct Row {
    std::string name;
    v1::Job job;
    std::vector<v1::Input> inputs;
    absl::StatusCode code;
    std::string message;
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  v1::Input escaping = Input(field), short_hash = Input(field), upper = Input(field), negative = Input(field),
            twice = Input(field), empty = Input(field), single = Input(field);
  escaping.mutable_artifact()->mutable_files(0)->set_path("../../etc/passwd");
  short_hash.mutable_artifact()->mutable_files(0)->set_sha256("abc");
  upper.mutable_artifact()->mutable_files(0)->set_sha256(std::string(64, 'A'));
  negative.mutable_artifact()->mutable_files(0)->set_size_bytes(-1);
  *twice.mutable_artifact()->add_files() = twice.artifact().files(0);
  empty.mutable_artifact()->clear_files();
  single.mutable_artifact()->set_single_file(true);
  single.mutable_artifact()->add_files()->CopyFrom(single.artifact().files(0));
  single.mutable_artifact()->mutable_files(1)->set_path("other");
  const std::vector<Row> rows = {
      {"a client's path alone", Job("rows.jsonl"), {}, kInvalid, "submit with studioctl"},
      {"Hugging Face", Job("hf://org/rows@main"), {}, absl::StatusCode::kUnimplemented, "download it"},
      {"an input for nothing", Job("rows.jsonl"), {Input("dataset.nothing")}, kInvalid, "dataset.nothing"},
      {"two inputs", Job("rows.jsonl"), {Input(field), Input(field)}, kInvalid, "two inputs"},
      {"unknown scheme", Job("rows.jsonl"), {Input(field, "ftp://x/y")}, kInvalid, "ftp"},
      {"another job as input", Job("rows.jsonl"), {Input(field, "job:j1/result")}, kInvalid, "job:j1/result"},
      {"escaping path", Job("rows.jsonl"), {escaping}, kInvalid, ".."},
      {"short hash", Job("rows.jsonl"), {short_hash}, kInvalid, "SHA-256"},
      {"upper-case hash", Job("rows.jsonl"), {upper}, kInvalid, "SHA-256"},
      {"negative size", Job("rows.jsonl"), {negative}, kInvalid, "-1"},
      {"a file twice", Job("rows.jsonl"), {twice}, kInvalid, "twice"},
      {"no files", Job("rows.jsonl"), {empty}, kInvalid, "no files"},
      {"single but two", Job("rows.jsonl"), {single}, kInvalid, "2 files"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    EXPECT_THAT(CheckInputs(row.job, row.inputs), StatusIs(row.code, HasSubstr(row.message)));
  }
}

}  // namespace
}  // namespace studio::controller
