#include "worker/agent/local_job.h"

#include <filesystem>
#include <string>

#include "common/env/posix_env.h"
#include "common/status/testing.h"

namespace studio::worker {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr char kHash[] = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

v1::Input InputOf(const std::string& field, const std::string& file, bool single_file) {
  v1::Input input;
  input.set_field(field);
  input.mutable_artifact()->set_uri("studio:");
  input.mutable_artifact()->set_single_file(single_file);
  v1::FileRef& ref = *input.mutable_artifact()->add_files();
  ref.set_path(file);
  ref.set_size_bytes(4);
  ref.set_sha256(kHash);
  return input;
}

class LocalJobTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::canonical(testing::TempDir()).string() + "/" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    ASSERT_OK(env_.MakeFolders(root_ + "/shared/model"));
    ASSERT_OK(env_.WriteFile(root_ + "/shared/rows.jsonl", "{}"));
    ASSERT_OK(env_.WriteFile(root_ + "/secret.jsonl", "{}"));
    job_.mutable_dataset()->set_train_dataframe("rows.jsonl");
  }
  absl::StatusOr<LocalJob> Plan(const std::vector<v1::Input>& inputs) {
    return PlanLocalJob(job_, inputs, "/state/inputs", {root_ + "/shared"});
  }

  PosixEnv env_;
  std::string root_;
  v1::Job job_;
};

TEST_F(LocalJobTest, UploadedInputsBecomeFoldersNamedByTheirContents) {
  job_.mutable_architecture()->set_llm_backbone("../models/smol");
  ASSERT_OK_AND_ASSIGN(const LocalJob local, Plan({InputOf("dataset.train_dataframe", "rows.jsonl", true),
                                                   InputOf("architecture.llm_backbone", "config.json", false)}));
  ASSERT_EQ(local.fetches.size(), 2);
  EXPECT_EQ(local.job.dataset().train_dataframe(), local.fetches[0].folder + "/rows.jsonl");
  EXPECT_EQ(local.job.architecture().llm_backbone(), local.fetches[1].folder);
  EXPECT_THAT(local.fetches[0].folder, HasSubstr("/state/inputs/"));
  EXPECT_NE(local.fetches[0].folder, local.fetches[1].folder);
}

TEST_F(LocalJobTest, DefaultsAreFilled) {
  ASSERT_OK_AND_ASSIGN(const LocalJob local, Plan({InputOf("dataset.train_dataframe", "rows.jsonl", true)}));
  EXPECT_EQ(local.job.training().lora_r(), 16);
}

TEST_F(LocalJobTest, AFileUriUnderASharedRootIsUsedWhereItLies) {
  job_.mutable_dataset()->set_train_dataframe("file:" + root_ + "/shared/rows.jsonl");
  ASSERT_OK_AND_ASSIGN(const LocalJob local, Plan({}));
  EXPECT_EQ(local.job.dataset().train_dataframe(), root_ + "/shared/rows.jsonl");
  EXPECT_TRUE(local.fetches.empty());
}

TEST_F(LocalJobTest, NothingOutsideTheRootsIsRead) {
  std::filesystem::create_symlink(root_ + "/secret.jsonl", root_ + "/shared/innocent.jsonl");
  for (const std::string& path :
       {root_ + "/secret.jsonl", "file:" + root_ + "/secret.jsonl", "file:" + root_ + "/shared/../secret.jsonl",
        "file:" + root_ + "/shared/innocent.jsonl"}) {
    job_.mutable_dataset()->set_train_dataframe(path);
    EXPECT_THAT(Plan({}), StatusIs(absl::StatusCode::kInvalidArgument,
                                   AllOf(HasSubstr("dataset.train_dataframe"), HasSubstr(root_ + "/shared"))))
        << path;
  }
}

TEST_F(LocalJobTest, AMissingSharedFileIsBadInput) {
  job_.mutable_dataset()->set_train_dataframe("file:" + root_ + "/shared/none.jsonl");
  EXPECT_THAT(Plan({}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("none.jsonl")));
}

TEST_F(LocalJobTest, AnInputThatReachesOutOfItsFolderIsRefused) {
  EXPECT_THAT(Plan({InputOf("dataset.train_dataframe", "../../etc/cron.d/x", true)}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("..")));
}

}  // namespace
}  // namespace studio::worker
