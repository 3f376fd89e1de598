#include "controller/backup/backup.h"

#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/artifact/sha256.h"
#include "common/status/testing.h"
#include "controller/backup/state_folder.h"
#include "controller/backup/verify.h"

namespace studio::controller {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A controller's state folder with one SUCCEEDED job and its blobs, and a store that goes on.
class BackupTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(State() + "/logs/j1/1");
    std::ofstream(State() + "/logs/j1/1/rank-0.log") << "step 1\n";
    ASSERT_OK_AND_ASSIGN(content_, ContentStore::Open(absl::StrCat(State(), "/", kContentFolder), {}));
    ASSERT_OK_AND_ASSIGN(store_, SqliteStore::Open(absl::StrCat(State(), "/", kDatabaseFile)));
    ASSERT_OK(store_->LoadAll());
    v1::JobRecord job;
    job.set_id("j1");
    job.set_state(v1::SUCCEEDED);
    v1::Attempt& attempt = *job.add_attempts();
    attempt.set_number(1);
    attempt.set_epoch(1);
    attempt.set_state(v1::ATTEMPT_SUCCEEDED);
    job.mutable_result()->set_uri("studio:");
    *job.mutable_result()->add_files() = Blob("weights");
    ASSERT_OK(Commit(job, 1, 1));
  }

  v1::FileRef Blob(const std::string& bytes) {
    v1::FileRef file;
    file.set_path("adapter.safetensors");
    file.set_size_bytes(static_cast<int64_t>(bytes.size()));
    file.set_sha256(Sha256Hex(bytes));
    auto writer = content_->Put(file, 0);
    EXPECT_OK(writer);
    EXPECT_OK((*writer)->Append(bytes));
    EXPECT_OK((*writer)->Commit());
    return file;
  }
  absl::Status Commit(const v1::JobRecord& job, int64_t last_job, int64_t last_epoch) {
    Batch batch;
    batch.jobs = {std::make_shared<v1::JobRecord>(job)};
    batch.requests = {{"local/r1", job.id()}};
    batch.last_job = last_job;
    batch.last_epoch = last_epoch;
    std::promise<absl::Status> done;
    store_->Commit(std::move(batch), [&](const absl::Status& status) { done.set_value(status); });
    return done.get_future().get();
  }
  absl::StatusOr<v1::Backup> Write(const std::string& name) { return WriteBackup(*store_, *content_, State(), name); }
  // As after the controller's end.
  void Close() {
    store_.reset();
    content_.reset();
  }
  std::string State() const { return root_ + "/state"; }
  std::string Restored() const { return root_ + "/restored"; }

  std::string root_;
  std::unique_ptr<ContentStore> content_;
  std::unique_ptr<SqliteStore> store_;
};

TEST_F(BackupTest, BringsBackWhatWasStored) {
  ASSERT_OK_AND_ASSIGN(const v1::Backup backup, Write("first"));
  EXPECT_EQ(backup.jobs(), 1);
  EXPECT_EQ(backup.blobs(), 1);
  EXPECT_EQ(backup.blob_bytes(), 7);
  fs::remove_all(State() + "/content");  // the backup needs nothing of it
  ASSERT_OK(RestoreBackup(backup.folder(), Restored()));
  ASSERT_OK_AND_ASSIGN(const Verified verified, VerifyFolder(Restored()));
  EXPECT_THAT(verified.problems, IsEmpty());
  EXPECT_EQ(verified.blobs, 1);
  ASSERT_OK_AND_ASSIGN(const auto store, SqliteStore::Open(absl::StrCat(Restored(), "/", kDatabaseFile)));
  ASSERT_OK_AND_ASSIGN(const StoreContents contents, store->LoadAll());
  EXPECT_EQ(contents.jobs.at(1).state(), v1::SUCCEEDED);
  EXPECT_EQ(contents.requests.at("local/r1"), "j1");
  EXPECT_TRUE(fs::exists(Restored() + "/logs/j1/1/rank-0.log"));
}

TEST_F(BackupTest, NeverGivesOutAgainWhatWasGivenOutAfterIt) {
  ASSERT_OK_AND_ASSIGN(const v1::Backup backup, Write("first"));
  v1::JobRecord later;
  later.set_id("j500");
  later.set_state(v1::PENDING);
  ASSERT_OK(Commit(later, 500, 700));
  ASSERT_OK(RestoreBackup(backup.folder(), Restored()));
  ASSERT_OK_AND_ASSIGN(const auto store, SqliteStore::Open(absl::StrCat(Restored(), "/", kDatabaseFile)));
  ASSERT_OK_AND_ASSIGN(const StoreContents contents, store->LoadAll());
  EXPECT_EQ(contents.jobs.count(500), 0);
  EXPECT_GT(contents.last_job, 500);
  EXPECT_GT(contents.last_epoch, 700);
}

TEST_F(BackupTest, SharesBlobsInsteadOfCopyingThem) {
  ASSERT_OK_AND_ASSIGN(const v1::Backup backup, Write("first"));
  const std::string hash = Sha256Hex("weights");
  struct stat info = {};
  ASSERT_EQ(stat(content_->BlobPath(hash)->c_str(), &info), 0);
  EXPECT_EQ(info.st_nlink, 2);
}

TEST_F(BackupTest, IsOneMomentWhileCommitsGoOn) {
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    v1::JobRecord job;
    job.set_state(v1::PENDING);
    job.set_message(std::string(10'000, 'x'));
    for (int64_t number = 2; !stop; ++number) {
      job.set_id(JobId(number));
      EXPECT_OK(Commit(job, number, 1));
    }
  });
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(const v1::Backup backup, Write(absl::StrCat("b", i)));
    ASSERT_OK_AND_ASSIGN(const Verified verified, VerifyFolder(backup.folder()));
    EXPECT_THAT(verified.problems, IsEmpty());
    EXPECT_EQ(verified.jobs, backup.jobs());
  }
  stop = true;
  writer.join();
}

TEST_F(BackupTest, RefusesWhatCannotBeANameAndWhatIsThere) {
  ASSERT_OK(Write("first"));
  EXPECT_THAT(Write("first").status(), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("first")));
  for (const char* bad : {"", "..", ".hidden", "a/b", "a b"}) {
    EXPECT_THAT(Write(bad).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("named"))) << bad;
  }
}

TEST_F(BackupTest, KeepsNothingOfABackupThatFailed) {
  fs::remove_all(State() + "/content/blobs");
  EXPECT_THAT(Write("first").status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("job j1")));
  EXPECT_THAT(fs::is_empty(State() + "/backups"), true);
}

TEST_F(BackupTest, RestoresOnlyWhatIsWholeAndOnlyWhereNothingIs) {
  ASSERT_OK_AND_ASSIGN(const v1::Backup backup, Write("first"));
  EXPECT_THAT(RestoreBackup(backup.folder(), State()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("--state-dir")));
  const std::string manifest = absl::StrCat(backup.folder(), "/", kManifestFile);
  fs::rename(manifest, manifest + ".away");
  EXPECT_THAT(RestoreBackup(backup.folder(), Restored()), StatusIs(absl::StatusCode::kNotFound, HasSubstr("finished")));
  fs::rename(manifest + ".away", manifest);
  const std::string hash = Sha256Hex("weights");
  const std::string blob = absl::StrCat(backup.folder(), "/content/blobs/", hash.substr(0, 2), "/", hash);
  fs::remove(blob);  // it is a link: the controller's own must stay as it is
  std::ofstream(blob) << "wEights";
  EXPECT_THAT(RestoreBackup(backup.folder(), Restored()), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("job j1")));
  EXPECT_FALSE(fs::exists(absl::StrCat(Restored(), "/", kDatabaseFile)));
}

TEST_F(BackupTest, VerifiesAStateFolderOnlyWithoutItsController) {
  EXPECT_THAT(VerifyFolder(State()).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another process")));
  EXPECT_THAT(VerifyFolder(root_).status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("controller.db")));
  Close();
  ASSERT_OK_AND_ASSIGN(const Verified verified, VerifyFolder(State()));
  EXPECT_THAT(verified.problems, IsEmpty());
}

TEST(BrokenInvariants, AreNamedWithTheirJob) {
  StoreContents contents;
  contents.last_job = 3;
  contents.last_epoch = 5;
  const auto add = [&](int64_t number, v1::JobState state,
                       const std::vector<std::pair<int64_t, v1::AttemptState>>& attempts) {
    v1::JobRecord& job = contents.jobs[number];
    job.set_id(JobId(number));
    job.set_state(state);
    for (const auto& [epoch, attempt_state] : attempts) {
      v1::Attempt& attempt = *job.add_attempts();
      attempt.set_number(job.attempts_size());
      attempt.set_epoch(epoch);
      attempt.set_state(attempt_state);
    }
  };
  add(1, v1::RUNNING, {{1, v1::ATTEMPT_FAILED}, {2, v1::ATTEMPT_RUNNING}});
  add(2, v1::PENDING, {});
  EXPECT_THAT(BrokenInvariants(contents), IsEmpty());
  add(3, v1::RUNNING, {{4, v1::ATTEMPT_RUNNING}, {3, v1::ATTEMPT_RUNNING}});
  EXPECT_THAT(BrokenInvariants(contents), ElementsAre(HasSubstr("job j3: attempt 1 of 2 is not at an end")));
  contents.jobs.erase(3);
  add(3, v1::CANCELLED, {{2, v1::ATTEMPT_RUNNING}});
  EXPECT_THAT(BrokenInvariants(contents), ElementsAre(HasSubstr("CANCELLED with a live attempt"), HasSubstr("j1's")));
  contents.jobs.erase(3);
  add(3, v1::SUCCEEDED, {{9, v1::ATTEMPT_SUCCEEDED}});
  EXPECT_THAT(BrokenInvariants(contents), ElementsAre(HasSubstr("without a result"), HasSubstr("above the newest, 5")));
  contents.jobs.erase(3);
  add(4, v1::PENDING, {});
  contents.requests["local/x"] = "j7";
  EXPECT_THAT(BrokenInvariants(contents), ElementsAre(HasSubstr("counted as j3"), HasSubstr("job j7")));
}

}  // namespace
}  // namespace studio::controller
