#include "worker/trainer/local_paths.h"

#include <filesystem>
#include <fstream>

#include "common/status/testing.h"

namespace studio {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class LocalPathsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_ + "/model");
    std::ofstream(folder_ + "/rows.jsonl") << "{}";
    job_.mutable_dataset()->set_train_dataframe("rows.jsonl");
    job_.mutable_architecture()->set_llm_backbone("./model");
  }
  const std::string folder_ = testing::TempDir() + "/paths";
  v1::Job job_;
};

TEST_F(LocalPathsTest, AreRelativeToTheJobsFile) {
  ASSERT_OK(ResolveLocalPaths(job_, folder_));
  EXPECT_EQ(job_.dataset().train_dataframe(), std::filesystem::path(folder_ + "/rows.jsonl").lexically_normal());
  EXPECT_EQ(job_.architecture().llm_backbone(), std::filesystem::path(folder_ + "/model").lexically_normal());
}

TEST_F(LocalPathsTest, TakeAbsoluteOnesAndFileUris) {
  job_.mutable_architecture()->set_llm_backbone("file:" + folder_ + "/model");
  job_.mutable_dataset()->set_train_dataframe(folder_ + "/rows.jsonl");
  ASSERT_OK(ResolveLocalPaths(job_, "/tmp"));
}

TEST_F(LocalPathsTest, NameTheFieldAndThePathThatIsMissing) {
  job_.mutable_dataset()->set_train_dataframe("no.jsonl");
  EXPECT_THAT(
      ResolveLocalPaths(job_, folder_),
      StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("dataset.train_dataframe"), HasSubstr("no.jsonl"))));
}

TEST_F(LocalPathsTest, RefuseWhatOnlyAControllerCanFetch) {
  job_.mutable_architecture()->set_llm_backbone("hf://org/model");
  EXPECT_THAT(ResolveLocalPaths(job_, folder_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hf://org/model")));
}

}  // namespace
}  // namespace studio
