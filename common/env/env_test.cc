// What every Env promises, run over the real files and those in memory.
#include "common/env/env.h"

#include <functional>
#include <memory>
#include <string>

#include "common/env/memory_env.h"
#include "common/env/posix_env.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Kind {
  const char* name;
  std::function<std::unique_ptr<Env>()> make;
};

class EnvTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    env_ = GetParam().make();
    root_ = testing::TempDir() + "env_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    for (char& c : root_) c = c == '/' && &c > &root_[testing::TempDir().size()] ? '_' : c;
    ASSERT_OK(env_->RemoveAll(root_));
    ASSERT_OK(env_->MakeFolders(root_));
  }
  std::string Path(const std::string& name) const { return root_ + "/" + name; }

  std::unique_ptr<Env> env_;
  std::string root_;
};

TEST_P(EnvTest, ReadsWhatWasWritten) {
  const std::string bytes("a\0b\n", 4);
  ASSERT_OK(env_->WriteFile(Path("file"), bytes));
  ASSERT_OK_AND_ASSIGN(const std::string read, env_->ReadFile(Path("file")));
  EXPECT_EQ(read, bytes);
  ASSERT_OK_AND_ASSIGN(const int64_t size, env_->FileSize(Path("file")));
  EXPECT_EQ(size, 4);
}

TEST_P(EnvTest, AWriteReplacesTheWholeFileAndLeavesNothingElse) {
  ASSERT_OK(env_->WriteFile(Path("file"), "a long first version"));
  ASSERT_OK(env_->WriteFile(Path("file"), "second"));
  ASSERT_OK_AND_ASSIGN(const std::string read, env_->ReadFile(Path("file")));
  EXPECT_EQ(read, "second");
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> names, env_->ListFolder(root_));
  EXPECT_THAT(names, ElementsAre("file"));
}

TEST_P(EnvTest, AMissingPathIsNotFoundAndNamed) {
  EXPECT_THAT(env_->ReadFile(Path("none")), StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("none"))));
  EXPECT_THAT(env_->FileSize(Path("none")), StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("none"))));
  EXPECT_THAT(env_->Truncate(Path("none"), 0), StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("none"))));
  EXPECT_THAT(env_->ListFolder(Path("none")), StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("none"))));
  EXPECT_THAT(env_->WriteFile(Path("no/file"), ""), StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("no/file"))));
  EXPECT_THAT(env_->OpenAppend(Path("no/file")), StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("no/file"))));
  EXPECT_FALSE(env_->Exists(Path("none")));
}

TEST_P(EnvTest, AppendsGoOnWhereTheFileEnded) {
  {
    ASSERT_OK_AND_ASSIGN(const std::unique_ptr<AppendFile> file, env_->OpenAppend(Path("log")));
    ASSERT_OK(file->Append("one "));
    ASSERT_OK(file->Append("two "));
    ASSERT_OK(file->Sync());
  }
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<AppendFile> file, env_->OpenAppend(Path("log")));
  ASSERT_OK(file->Append("three"));
  ASSERT_OK_AND_ASSIGN(const std::string read, env_->ReadFile(Path("log")));
  EXPECT_EQ(read, "one two three");
}

TEST_P(EnvTest, TruncateKeepsTheBeginningAndAppendsGoOnThere) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<AppendFile> file, env_->OpenAppend(Path("log")));
  ASSERT_OK(file->Append("good torn"));
  ASSERT_OK(env_->Truncate(Path("log"), 4));
  ASSERT_OK(file->Append("new"));
  ASSERT_OK_AND_ASSIGN(const std::string read, env_->ReadFile(Path("log")));
  EXPECT_EQ(read, "goodnew");
}

TEST_P(EnvTest, ALinkHasTheBytesAndOutlivesTheFirstName) {
  ASSERT_OK(env_->WriteFile(Path("shard"), "weights"));
  ASSERT_OK(env_->WriteFile(Path("other"), "old"));
  ASSERT_OK(env_->Link(Path("shard"), Path("other")));
  ASSERT_OK(env_->RemoveAll(Path("shard")));
  ASSERT_OK_AND_ASSIGN(const std::string read, env_->ReadFile(Path("other")));
  EXPECT_EQ(read, "weights");
  EXPECT_THAT(env_->Link(Path("none"), Path("new")), StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("none"))));
}

TEST_P(EnvTest, FoldersAreMadeListedAndRemovedWhole) {
  ASSERT_OK(env_->MakeFolders(Path("a/b/c")));
  ASSERT_OK(env_->MakeFolders(Path("a/b/c")));
  ASSERT_OK(env_->WriteFile(Path("a/z"), ""));
  ASSERT_OK(env_->WriteFile(Path("a/b/c/deep"), ""));
  ASSERT_OK(env_->WriteFile(Path("ab"), ""));
  ASSERT_OK_AND_ASSIGN(std::vector<std::string> names, env_->ListFolder(Path("a")));
  EXPECT_THAT(names, ElementsAre("b", "z"));
  EXPECT_TRUE(env_->Exists(Path("a/b")));
  ASSERT_OK(env_->RemoveAll(Path("a")));
  EXPECT_FALSE(env_->Exists(Path("a/b/c/deep")));
  EXPECT_FALSE(env_->Exists(Path("a")));
  EXPECT_TRUE(env_->Exists(Path("ab"))) << "a neighbour whose name begins alike";
  ASSERT_OK(env_->RemoveAll(Path("a")));
}

INSTANTIATE_TEST_SUITE_P(Kinds, EnvTest,
                         testing::Values(Kind{"Posix", [] { return std::make_unique<PosixEnv>(); }},
                                         Kind{"Memory", [] { return std::make_unique<MemoryEnv>(); }}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MemoryEnv, ACrashKeepsWhatWasSyncedAndATornTail) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<AppendFile> file, env.OpenAppend("/log"));
  ASSERT_OK(file->Append("synced "));
  ASSERT_OK(file->Sync());
  ASSERT_OK(file->Append("lost"));
  env.Crash(/*torn_bytes=*/2);
  ASSERT_OK_AND_ASSIGN(const std::string read, env.ReadFile("/log"));
  EXPECT_EQ(read, "synced lo");
}

TEST(MemoryEnv, FailsFromTheChangeThatWasAskedFor) {
  MemoryEnv env;
  env.FailAfter(1, absl::ResourceExhaustedError("disk full"));
  EXPECT_OK(env.WriteFile("/a", "1"));
  EXPECT_THAT(env.WriteFile("/a", "2"), StatusIs(absl::StatusCode::kResourceExhausted, "disk full"));
  EXPECT_THAT(env.MakeFolders("/b"), StatusIs(absl::StatusCode::kResourceExhausted, "disk full"));
  env.StopFailing();
  ASSERT_OK_AND_ASSIGN(const std::string read, env.ReadFile("/a"));
  EXPECT_EQ(read, "1");
}

}  // namespace
}  // namespace studio
