// One suite over every store; what only a disk can do comes after it.
#include "controller/store/store.h"

#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>

#include "common/status/testing.h"
#include "controller/store/memory_store.h"
#include "controller/store/sqlite_store.h"

namespace studio::controller {
namespace {

using testing::HasSubstr;

std::shared_ptr<const v1::JobRecord> Job(const std::string& id, const std::string& message) {
  auto job = std::make_shared<v1::JobRecord>();
  job->set_id(id);
  job->set_message(message);
  return job;
}

absl::Status CommitAndWait(Store& store, Batch batch) {
  std::promise<absl::Status> done;
  store.Commit(std::move(batch), [&](absl::Status status) { done.set_value(status); });
  return done.get_future().get();
}

std::string FreshPath() {
  std::string path = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() + ".db";
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path + suffix);
  return path;
}

std::unique_ptr<SqliteStore> OpenSqlite(const std::string& path) {
  absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(path);
  EXPECT_OK(store);
  return store.ok() ? *std::move(store) : nullptr;
}

class StoreConformance : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "memory") {
      store_ = std::make_unique<MemoryStore>();
    } else {
      path_ = testing::TempDir() + "/conformance.db";
      for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + suffix);
      store_ = OpenSqlite(path_);
    }
    ASSERT_NE(store_, nullptr);
  }
  StoreContents Load() {
    absl::StatusOr<StoreContents> contents = store_->LoadAll();
    EXPECT_OK(contents);
    return contents.ok() ? *contents : StoreContents();
  }
  absl::StatusOr<v1::JobRecord> FindArchived(int64_t number) {
    std::promise<absl::StatusOr<v1::JobRecord>> found;
    store_->FindArchived(number, [&](absl::StatusOr<v1::JobRecord> record) { found.set_value(std::move(record)); });
    return found.get_future().get();
  }
  std::unique_ptr<Store> store_;
  std::string path_;
};

TEST_P(StoreConformance, StartsEmpty) {
  const StoreContents contents = Load();
  EXPECT_TRUE(contents.jobs.empty());
  EXPECT_TRUE(contents.requests.empty());
  EXPECT_TRUE(contents.workers.empty());
  EXPECT_EQ(contents.last_job, 0);
  EXPECT_EQ(contents.last_epoch, 0);
}

TEST_P(StoreConformance, KeepsEverythingInABatch) {
  Batch batch;
  batch.jobs = {Job("j2", "two"), Job("j10", "ten")};
  batch.requests = {{"local/r1", "j2"}};
  batch.workers.emplace_back().set_id("w1");
  batch.last_job = 10;
  batch.last_epoch = 33;
  ASSERT_OK(CommitAndWait(*store_, std::move(batch)));
  const StoreContents contents = Load();
  ASSERT_EQ(contents.jobs.size(), 2);
  EXPECT_EQ(contents.jobs.begin()->second.message(), "two");  // by number, not by text
  EXPECT_EQ(contents.jobs.rbegin()->first, 10);
  EXPECT_EQ(contents.requests.at("local/r1"), "j2");
  EXPECT_EQ(contents.workers.at("w1").id(), "w1");
  EXPECT_EQ(contents.last_job, 10);
  EXPECT_EQ(contents.last_epoch, 33);
}

TEST_P(StoreConformance, ReplacesARecordByItsNewerForm) {
  Batch first, second;
  first.jobs = {Job("j1", "old")};
  first.last_epoch = 1;
  second.jobs = {Job("j1", "new")};
  ASSERT_OK(CommitAndWait(*store_, std::move(first)));
  ASSERT_OK(CommitAndWait(*store_, std::move(second)));
  const StoreContents contents = Load();
  ASSERT_EQ(contents.jobs.size(), 1);
  EXPECT_EQ(contents.jobs.at(1).message(), "new");
  EXPECT_EQ(contents.last_epoch, 1);  // what a batch does not name stays
}

TEST_P(StoreConformance, AnswersInTheOrderOfCommits) {
  std::vector<int> answered;
  std::promise<void> all;
  for (int i = 0; i < 100; ++i) {
    Batch batch;
    if (i % 3 != 0) batch.jobs = {Job("j1", std::to_string(i))};  // every third is a barrier
    store_->Commit(std::move(batch), [&, i](absl::Status status) {
      EXPECT_OK(status);
      answered.push_back(i);
      if (i == 99) all.set_value();
    });
  }
  all.get_future().wait();
  ASSERT_EQ(answered.size(), 100);
  EXPECT_TRUE(std::is_sorted(answered.begin(), answered.end()));
  EXPECT_EQ(Load().jobs.at(1).message(), "98");
}

TEST_P(StoreConformance, RefusesARecordWithoutAProperIdAndEverythingAfterIt) {
  Batch bad, good;
  bad.jobs = {Job("x", "?")};
  good.jobs = {Job("j1", "fine")};
  EXPECT_FALSE(CommitAndWait(*store_, std::move(bad)).ok());
  EXPECT_FALSE(CommitAndWait(*store_, std::move(good)).ok());
  EXPECT_TRUE(Load().jobs.empty());
}

TEST_P(StoreConformance, FindsArchivedJobsOneByOneAndLoadsThemNoMore) {
  Batch batch, archive, forget;
  batch.jobs = {Job("j1", "old"), Job("j2", "new")};
  batch.requests = {{"local/r1", "j1"}, {"local/r2", "j2"}};
  ASSERT_OK(CommitAndWait(*store_, std::move(batch)));
  EXPECT_THAT(FindArchived(1), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no job j1")));
  archive.archived = {1};
  archive.expiring = {{"local/r1", 1700}};
  store_->Commit(std::move(archive), [](const absl::Status& status) { EXPECT_OK(status); });
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord found, FindArchived(1));  // behind what was committed before
  EXPECT_EQ(found.message(), "old");
  StoreContents contents = Load();
  EXPECT_EQ(contents.jobs.count(1), 0);
  EXPECT_EQ(contents.jobs.at(2).message(), "new");
  EXPECT_EQ(contents.requests.at("local/r1"), "j1");
  EXPECT_EQ(contents.expiring, (std::map<std::string, int64_t>{{"local/r1", 1700}}));
  forget.forgotten = {"local/r1"};
  ASSERT_OK(CommitAndWait(*store_, std::move(forget)));
  contents = Load();
  EXPECT_EQ(contents.requests.count("local/r1"), 0);
  EXPECT_TRUE(contents.expiring.empty());
  ASSERT_OK(FindArchived(1));
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreConformance, testing::Values("memory", "sqlite"),
                         [](const auto& info) { return info.param; });

TEST(SqliteStore, FindsEverythingAgainAfterReopening) {
  const std::string path = FreshPath();
  {
    auto store = OpenSqlite(path);
    Batch batch;
    batch.jobs = {Job("j1", "kept")};
    store->Commit(std::move(batch), [](absl::Status status) { EXPECT_OK(status); });
  }  // the destructor writes what waits
  ASSERT_OK_AND_ASSIGN(const StoreContents contents, OpenSqlite(path)->LoadAll());
  EXPECT_EQ(contents.jobs.at(1).message(), "kept");
}

// A child commits without end and is killed; whatever it had been told is durable must be there.
TEST(SqliteStore, KeepsWhatItAcknowledgedWhenKilled) {
  const std::string path = FreshPath();
  for (int round = 0; round < 5; ++round) {
    int answers[2];
    ASSERT_EQ(pipe(answers), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto store = SqliteStore::Open(path);
      if (!store.ok()) _exit(1);
      for (int64_t number = 1;; ++number) {
        Batch batch;
        batch.jobs = {Job(JobId(number), std::to_string(round))};
        batch.last_job = number;
        std::promise<void> done;
        (*store)->Commit(std::move(batch), [&](absl::Status status) {
          if (!status.ok()) _exit(1);
          if (write(answers[1], &number, sizeof(number)) != sizeof(number)) _exit(1);
          done.set_value();
        });
        done.get_future().wait();
      }
    }
    close(answers[1]);
    int64_t acknowledged = 0;
    while (acknowledged < 20 + 7 * round) ASSERT_GT(read(answers[0], &acknowledged, sizeof(acknowledged)), 0);
    kill(child, SIGKILL);
    int64_t more = 0;
    while (read(answers[0], &more, sizeof(more)) > 0) acknowledged = more;
    close(answers[0]);
    waitpid(child, nullptr, 0);
    ASSERT_OK_AND_ASSIGN(const StoreContents contents, OpenSqlite(path)->LoadAll());
    EXPECT_GE(contents.last_job, acknowledged);
    for (int64_t number = 1; number <= acknowledged; ++number) {
      EXPECT_EQ(contents.jobs.at(number).message(), std::to_string(round));
    }
  }
}

TEST(SqliteStore, SharesOneTransactionAmongWaitingBatches) {
  auto store = OpenSqlite(FreshPath());
  std::promise<void> writer_may_go_on, last;
  std::shared_future<void> gate = writer_may_go_on.get_future().share();
  store->Commit({}, [gate](absl::Status) { gate.wait(); });  // holds the writer up
  for (int i = 1; i <= 200; ++i) {
    Batch batch;
    batch.jobs = {Job(JobId(i), "x")};
    store->Commit(std::move(batch), [&, i](absl::Status) {
      if (i == 200) last.set_value();
    });
  }
  writer_may_go_on.set_value();
  last.get_future().wait();
  EXPECT_LE(store->transactions(), 3);
}

TEST(SqliteStore, RefusesAFileOfAnotherVersion) {
  const std::string path = FreshPath();
  OpenSqlite(path).reset();
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  sqlite3_exec(database, "pragma user_version = 9", nullptr, nullptr, nullptr);
  sqlite3_close(database);
  EXPECT_THAT(SqliteStore::Open(path),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("newer version (schema 9")));
}

// A file as version 0.1.0 wrote it, with one job and its request; `more` is run on it.
std::string FileOfSchema1(const std::string& more = "") {
  std::string path = FreshPath();
  std::filesystem::remove(path + ".schema-1");
  sqlite3* database = nullptr;
  EXPECT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  std::string hex;
  for (const unsigned char c : Job("j1", "old")->SerializeAsString()) {
    hex += "0123456789abcdef"[c >> 4];
    hex += "0123456789abcdef"[c & 15];
  }
  const std::string sql = R"(
    pragma journal_mode=wal;
    create table jobs(number integer primary key, record blob not null) strict;
    create table requests(key text primary key, job_id text not null) strict, without rowid;
    create table workers(id text primary key, record blob not null) strict, without rowid;
    create table counters(name text primary key, value integer not null) strict, without rowid;
    pragma user_version = 1;
    insert into requests values('local/r1', 'j1');
    insert into counters values('last_job', 1), ('last_epoch', 7);
    insert into jobs values(1, x')" +
                          hex + "');" + more;
  EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database);
  sqlite3_close(database);
  return path;
}

int64_t SchemaOf(const std::string& path) {
  sqlite3* database = nullptr;
  EXPECT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  sqlite3_stmt* version = nullptr;
  sqlite3_prepare_v2(database, "pragma user_version", -1, &version, nullptr);
  const int64_t schema = sqlite3_step(version) == SQLITE_ROW ? sqlite3_column_int64(version, 0) : -1;
  sqlite3_finalize(version);
  sqlite3_close(database);
  return schema;
}

TEST(SqliteStore, BringsAnOldFileForwardAndLeavesACopyOfIt) {
  const std::string path = FileOfSchema1();
  std::ofstream(path + ".schema-1.partial") << "of a start that was cut off";
  for (int start = 1; start <= 2; ++start) {
    auto store = OpenSqlite(path);
    ASSERT_OK_AND_ASSIGN(const StoreContents contents, store->LoadAll());
    EXPECT_EQ(contents.jobs.at(1).message(), "old");
    EXPECT_EQ(contents.requests.at("local/r1"), "j1");
    EXPECT_EQ(contents.last_epoch, 7);
    EXPECT_OK(store->CheckFile());
    store.reset();
    EXPECT_EQ(SchemaOf(path), 2);
  }
  EXPECT_EQ(SchemaOf(path + ".schema-1"), 1);
  ASSERT_OK_AND_ASSIGN(const auto copy, SqliteStore::Open(path + ".schema-1", SqliteStore::Migration::kLeave));
  EXPECT_EQ(copy->LoadAll()->jobs.at(1).message(), "old");
}

TEST(SqliteStore, LeavesAnOldFileAsItIsForWhoOnlyReads) {
  const std::string path = FileOfSchema1();
  {
    ASSERT_OK_AND_ASSIGN(const auto store, SqliteStore::Open(path, SqliteStore::Migration::kLeave));
    EXPECT_EQ(store->LoadAll()->requests.at("local/r1"), "j1");
    EXPECT_TRUE(store->CheckArchive()->empty());
  }
  EXPECT_EQ(SchemaOf(path), 1);
  EXPECT_FALSE(std::filesystem::exists(path + ".schema-1"));
}

TEST(SqliteStore, AMigrationThatFailsChangesNothing) {
  // The step's second statement fails.
  const std::string path = FileOfSchema1("alter table requests add column expires integer not null default 0;");
  // The second time, too: the first left nothing of what came before it.
  for (int start = 0; start < 2; ++start) {
    EXPECT_THAT(SqliteStore::Open(path), StatusIs(absl::StatusCode::kInternal, HasSubstr("duplicate column")));
  }
  EXPECT_EQ(SchemaOf(path), 1);
  ASSERT_OK_AND_ASSIGN(const auto store, SqliteStore::Open(path, SqliteStore::Migration::kLeave));
  EXPECT_EQ(store->LoadAll()->jobs.at(1).message(), "old");
}

TEST(SqliteStore, NamesADamagedRecord) {
  const std::string path = FreshPath();
  OpenSqlite(path).reset();
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  sqlite3_exec(database, "insert into jobs values(3, x'ff')", nullptr, nullptr, nullptr);
  sqlite3_close(database);
  EXPECT_THAT(OpenSqlite(path)->LoadAll(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("j3")));
}

TEST(SqliteStore, NamesAPathThatCannotBeOpened) {
  EXPECT_THAT(SqliteStore::Open("/no/such/folder/x.db").status(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("/no/such/folder/x.db")));
}

TEST(JobId, IsOneTextPerNumber) {
  ASSERT_OK_AND_ASSIGN(const int64_t number, JobNumber("j17"));
  EXPECT_EQ(number, 17);
  for (const char* bad : {"", "j", "17", "j0", "j-1", "j017", "j+1", "j1x", "j99999999999999999999"}) {
    EXPECT_THAT(JobNumber(bad), StatusIs(absl::StatusCode::kNotFound, HasSubstr(bad))) << bad;
  }
}

}  // namespace
}  // namespace studio::controller
