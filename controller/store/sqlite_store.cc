#include "controller/store/sqlite_store.h"

#include <sqlite3.h>

#include <cstdio>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "common/artifact/file_io.h"
#include "common/status/macros.h"

namespace studio::controller {
namespace {

// What makes schema N + 1 of schema N, each within a transaction. A file that is there is brought forward by what it
// lacks; a released step never changes.
constexpr const char* kSteps[] = {
    R"(
  create table jobs(number integer primary key, record blob not null) strict;
  create table requests(key text primary key, job_id text not null) strict, without rowid;
  create table workers(id text primary key, record blob not null) strict, without rowid;
  create table counters(name text primary key, value integer not null) strict, without rowid;
)",
    // Jobs that ended long ago, and requests that are forgotten some time after (Unix seconds; 0: not yet).
    R"(
  create table archive(number integer primary key, record blob not null) strict;
  alter table requests add column expires integer not null default 0;
)"};
constexpr int kSchema = std::size(kSteps);

absl::Status Error(sqlite3* database, const std::string& doing) {
  return absl::InternalError(absl::StrCat("store: ", doing, ": ", sqlite3_errmsg(database)));
}

absl::Status Execute(sqlite3* database, const char* sql) {
  if (sqlite3_exec(database, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return absl::OkStatus();
  return Error(database, sql);
}

// One prepared statement, finalised at the end of its scope.
class Statement {
 public:
  Statement(sqlite3* database, const char* sql) : database_(database), sql_(sql) {
    prepared_ = sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr) == SQLITE_OK;
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  void Bind(int index, int64_t value) { sqlite3_bind_int64(statement_, index, value); }
  void BindText(int index, const std::string& text) {
    sqlite3_bind_text64(statement_, index, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  }
  void BindBlob(int index, const std::string& bytes) {
    sqlite3_bind_blob64(statement_, index, bytes.data(), bytes.size(), SQLITE_TRANSIENT);
  }
  int64_t Int(int column) { return sqlite3_column_int64(statement_, column); }
  std::string Bytes(int column) {
    const void* data = sqlite3_column_blob(statement_, column);
    return data == nullptr ? "" : std::string(static_cast<const char*>(data), sqlite3_column_bytes(statement_, column));
  }
  // True while there is a row.
  absl::StatusOr<bool> Step() {
    if (!prepared_) return Error(database_, sql_);
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return Error(database_, sql_);
  }
  absl::Status Run() {
    RETURN_IF_ERROR(Step().status());
    sqlite3_reset(statement_);
    return absl::OkStatus();
  }

 private:
  sqlite3* const database_;
  const char* const sql_;
  sqlite3_stmt* statement_ = nullptr;
  bool prepared_ = false;
};

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError(absl::StrCat("store: ", what, " is damaged; restore the state folder from a backup"));
}

// A copy of a database into another file, which it makes.
struct FileCopy {
  std::string path;
  sqlite3* target = nullptr;
  sqlite3_backup* backup = nullptr;

  absl::Status Begin(sqlite3* source) {
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXCLUSIVE;
    if (sqlite3_open_v2(path.c_str(), &target, flags, nullptr) != SQLITE_OK) return Error(target, "open " + path);
    RETURN_IF_ERROR(Execute(target, "pragma synchronous=full"));
    backup = sqlite3_backup_init(target, "main", source, "main");
    return backup != nullptr ? absl::OkStatus() : Error(target, "back up to " + path);
  }
  // True while there is more.
  absl::StatusOr<bool> Go(int pages) {
    const int code = sqlite3_backup_step(backup, pages);
    if (code == SQLITE_OK) return true;
    if (code == SQLITE_DONE) return false;
    return absl::InternalError(absl::StrCat("store: back up to ", path, ": ", sqlite3_errstr(code)));
  }
  absl::Status End(absl::Status status) {
    if (backup != nullptr && sqlite3_backup_finish(backup) != SQLITE_OK && status.ok()) status = Error(target, path);
    if (sqlite3_close(target) != SQLITE_OK && status.ok()) status = absl::InternalError("store: close " + path);
    return status;
  }
};

// The whole file, beside itself: durable before anything of it changes.
absl::Status CopyBeside(sqlite3* database, const std::string& path) {
  FileCopy copy{.path = path + ".partial"};
  std::remove(copy.path.c_str());
  absl::Status status = copy.Begin(database);
  if (status.ok()) status = copy.Go(/*pages: all*/ -1).status();
  status = copy.End(status);
  return status.ok() ? MoveDurably(copy.path, path) : status;
}

// Moves the log into the file once it is long enough, as SQLite does by itself; but a disk that fails at it is not
// asked again at the next commit: SQLite hides that failure, this one fails the commit.
int MoveLog(void*, sqlite3* database, const char* name, int pages) {
  constexpr int kLongPages = 1000;
  if (pages < kLongPages) return SQLITE_OK;
  const int code = sqlite3_wal_checkpoint_v2(database, name, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  return code == SQLITE_BUSY || code == SQLITE_LOCKED ? SQLITE_OK : code;  // a backup reads: next time
}

// Closes without writing anything: not to a disk that failed.
void Abandon(sqlite3* database) {
  sqlite3_db_config(database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_close(database);
}

// Returns the schema that the file has now.
absl::StatusOr<int> Prepare(sqlite3* database, const std::string& path, SqliteStore::Migration migration) {
  RETURN_IF_ERROR(Execute(database, "pragma locking_mode=exclusive"));
  RETURN_IF_ERROR(Execute(database, "pragma journal_mode=wal"));
  RETURN_IF_ERROR(Execute(database, "pragma synchronous=full"));
  sqlite3_wal_hook(database, MoveLog, nullptr);
  Statement version(database, "pragma user_version");
  RETURN_IF_ERROR(version.Step().status());
  const auto found = static_cast<int>(version.Int(0));
  RETURN_IF_ERROR(version.Step().status());  // to its end: it would hold the file
  if (found == kSchema || (found > 0 && found < kSchema && migration == SqliteStore::Migration::kLeave)) return found;
  if (found < 0 || found > kSchema) {
    return absl::FailedPreconditionError(
        absl::StrCat("store: written by a newer version (schema ", found, ", this one knows up to ", kSchema,
                     "); use that version, or restore a backup that was written before it"));
  }
  if (found > 0) RETURN_IF_ERROR(CopyBeside(database, absl::StrCat(path, ".schema-", found)));
  std::string steps;
  for (int step = found; step < kSchema; ++step) steps += kSteps[step];
  const std::string sql = absl::StrCat("begin immediate;", steps, "pragma user_version = ", kSchema, ";commit");
  if (absl::Status status = Execute(database, sql.c_str()); !status.ok()) {
    (void)Execute(database, "rollback");
    return status;
  }
  return kSchema;
}

absl::Status PutRequests(sqlite3* database, const Batch& batch) {
  Statement put(database, "insert or replace into requests values(?,?,0)");
  for (const auto& [key, id] : batch.requests) {
    put.BindText(1, key);
    put.BindText(2, id);
    RETURN_IF_ERROR(put.Run());
  }
  return absl::OkStatus();
}

absl::Status Archive(sqlite3* database, const Batch& batch) {
  Statement copy(database, "insert or replace into archive select number, record from jobs where number = ?");
  Statement drop(database, "delete from jobs where number = ?");
  for (const int64_t number : batch.archived) {
    for (Statement* statement : {&copy, &drop}) {
      statement->Bind(1, number);
      RETURN_IF_ERROR(statement->Run());
    }
  }
  Statement expire(database, "update requests set expires = ? where key = ?");
  for (const auto& [key, time] : batch.expiring) {
    expire.Bind(1, time);
    expire.BindText(2, key);
    RETURN_IF_ERROR(expire.Run());
  }
  Statement forget(database, "delete from requests where key = ?");
  for (const std::string& key : batch.forgotten) {
    forget.BindText(1, key);
    RETURN_IF_ERROR(forget.Run());
  }
  return absl::OkStatus();
}

absl::Status Put(sqlite3* database, const Batch& batch) {
  if (!batch.jobs.empty()) {
    Statement put(database, "insert or replace into jobs values(?,?)");
    for (const auto& job : batch.jobs) {
      ASSIGN_OR_RETURN(const int64_t number, JobNumber(job->id()));
      put.Bind(1, number);
      put.BindBlob(2, job->SerializeAsString());
      RETURN_IF_ERROR(put.Run());
    }
  }
  if (!batch.requests.empty()) RETURN_IF_ERROR(PutRequests(database, batch));
  if (!batch.archived.empty() || !batch.expiring.empty() || !batch.forgotten.empty()) {
    RETURN_IF_ERROR(Archive(database, batch));
  }
  if (!batch.workers.empty()) {
    Statement put(database, "insert or replace into workers values(?,?)");
    for (const v1::WorkerRecord& worker : batch.workers) {
      put.BindText(1, worker.id());
      put.BindBlob(2, worker.SerializeAsString());
      RETURN_IF_ERROR(put.Run());
    }
  }
  Statement count(database, "insert or replace into counters values(?,?)");
  for (const auto& [name, value] : {std::pair("last_job", batch.last_job), std::pair("last_epoch", batch.last_epoch)}) {
    if (!value) continue;
    count.BindText(1, name);
    count.Bind(2, *value);
    RETURN_IF_ERROR(count.Run());
  }
  return absl::OkStatus();
}

}  // namespace

// A copy under way: `Step` by `Step`, between the writer's transactions. SQLite keeps it in step with what the same
// connection writes meanwhile.
struct SqliteStore::Copy : FileCopy {
  Done done;
};

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path, Migration migration) {
  sqlite3* database = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  absl::StatusOr<int> schema =
      code == SQLITE_OK ? Prepare(database, path, migration) : absl::StatusOr<int>(Error(database, "open " + path));
  // SQLite does so, too, when it makes its files, and passes over a disk that cannot.
  if (schema.ok()) {
    if (absl::Status synced = SyncFolder(FolderOf(path)); !synced.ok()) schema = synced;
  }
  if (!schema.ok()) {
    Abandon(database);
    return absl::Status(schema.status().code(), absl::StrCat(path, ": ", schema.status().message()));
  }
  return std::unique_ptr<SqliteStore>(new SqliteStore(database, *schema));
}

SqliteStore::SqliteStore(sqlite3* database, int schema)
    : database_(database), schema_(schema), writer_([this] { Write(); }) {}

SqliteStore::~SqliteStore() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  writer_.join();
  if (failure_.ok()) {
    sqlite3_close(database_);
  } else {
    Abandon(database_);
  }
}

absl::StatusOr<StoreContents> SqliteStore::LoadAll() {
  StoreContents contents;
  Statement jobs(database_, "select number, record from jobs");
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, jobs.Step());
    if (!row) break;
    if (!contents.jobs[jobs.Int(0)].ParseFromString(jobs.Bytes(1))) return Damaged(JobId(jobs.Int(0)));
  }
  Statement requests(database_,
                     schema_ < 2 ? "select key, job_id, 0 from requests" : "select key, job_id, expires from requests");
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, requests.Step());
    if (!row) break;
    contents.requests[requests.Bytes(0)] = requests.Bytes(1);
    if (requests.Int(2) > 0) contents.expiring[requests.Bytes(0)] = requests.Int(2);
  }
  Statement workers(database_, "select id, record from workers");
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, workers.Step());
    if (!row) break;
    const std::string id = workers.Bytes(0);
    if (!contents.workers[id].ParseFromString(workers.Bytes(1))) return Damaged("worker " + id);
  }
  Statement counters(database_, "select name, value from counters");
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, counters.Step());
    if (!row) break;
    if (counters.Bytes(0) == "last_job") contents.last_job = counters.Int(1);
    if (counters.Bytes(0) == "last_epoch") contents.last_epoch = counters.Int(1);
  }
  return contents;
}

absl::Status SqliteStore::CheckFile() {
  Statement check(database_, "pragma integrity_check(1)");
  RETURN_IF_ERROR(check.Step().status());
  const std::string found = check.Bytes(0);
  return found == "ok" ? absl::OkStatus() : Damaged(absl::StrCat("its file (", found, ")"));
}

absl::StatusOr<std::set<int64_t>> SqliteStore::CheckArchive() {
  std::set<int64_t> numbers;
  if (schema_ < 2) return numbers;
  Statement archive(database_, "select number, record from archive");
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, archive.Step());
    if (!row) return numbers;
    numbers.insert(archive.Int(0));
    if (!v1::JobRecord().ParseFromString(archive.Bytes(1))) return Damaged("archived " + JobId(archive.Int(0)));
  }
}

void SqliteStore::FindArchived(int64_t number, Found found) {
  // Behind whatever waits, on the writer's thread.
  Commit({}, [this, number, found = std::move(found)](const absl::Status& status) {
    if (!status.ok()) return found(status);
    Statement archive(database_, "select record from archive where number = ?");
    archive.Bind(1, number);
    const absl::StatusOr<bool> row = archive.Step();
    if (!row.ok()) return found(row.status());
    if (!*row) return found(NoJob(number));
    v1::JobRecord record;
    if (!record.ParseFromString(archive.Bytes(0))) return found(Damaged("archived " + JobId(number)));
    found(std::move(record));
  });
}

void SqliteStore::Commit(Batch batch, Done done) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back({std::move(batch), std::move(done)});
  }
  wake_.notify_one();
}

int64_t SqliteStore::transactions() const {
  std::lock_guard lock(mutex_);
  return transactions_;
}

void SqliteStore::Describe(MetricsText& text) const {
  std::lock_guard lock(mutex_);
  text.Add("studio_commit_seconds", "From a change's commit to its being durable.", commit_seconds_);
  text.Counter("studio_transactions_total", "Transactions of the store: one fsync each.", {}, transactions_);
  text.Gauge("studio_commits_waiting", "Commits that wait for the store.", {}, static_cast<double>(queue_.size()));
}

void SqliteStore::BackUp(std::string path, Done done) {
  {
    std::unique_lock lock(mutex_);
    if (copying_) {
      lock.unlock();
      return done(absl::FailedPreconditionError("a backup is being written already; wait for it"));
    }
    copying_ = true;
    copy_ = std::make_unique<Copy>(Copy{{.path = std::move(path)}, std::move(done)});
  }
  wake_.notify_one();
}

void SqliteStore::Step(std::unique_ptr<Copy>& copy, bool idle) {
  // 4 KiB each: a millisecond or two between two transactions, more where nobody waits.
  const int pages = idle ? 4096 : 256;
  absl::Status status = failure_;
  if (status.ok() && copy->backup == nullptr) status = copy->Begin(database_);
  if (status.ok()) {
    const absl::StatusOr<bool> more = copy->Go(pages);
    if (more.ok() && *more) return;
    status = more.status();
  }
  status = copy->End(status);
  if (!status.ok()) std::remove(copy->path.c_str());
  {
    std::lock_guard lock(mutex_);
    copying_ = false;
  }
  copy->done(status);
  copy.reset();
}

void SqliteStore::Write() {
  std::unique_ptr<Copy> copy;
  for (;;) {
    std::deque<Waiting> group;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !queue_.empty() || copy_ != nullptr || copy != nullptr; });
      if (copy == nullptr) copy = std::move(copy_);
      if (queue_.empty() && copy == nullptr) return;
      group.swap(queue_);
      if (!group.empty()) ++transactions_;
    }
    if (!group.empty()) {
      // A batch after a lost one would rest on what is not there: the first failure is the last word.
      if (failure_.ok()) failure_ = WriteTogether(group);
      {
        const auto now = std::chrono::steady_clock::now();
        std::lock_guard lock(mutex_);
        for (const Waiting& waiting : group) {
          commit_seconds_.Observe(std::chrono::duration<double>(now - waiting.since).count());
        }
      }
      for (const Waiting& waiting : group) waiting.done(failure_);
    }
    if (copy != nullptr) Step(copy, group.empty());
  }
}

absl::Status SqliteStore::WriteTogether(const std::deque<Waiting>& group) {
  RETURN_IF_ERROR(Execute(database_, "begin immediate"));
  absl::Status status;
  for (const Waiting& waiting : group) {
    if (status.ok()) status = Put(database_, waiting.batch);
  }
  if (status.ok()) status = Execute(database_, "commit");
  if (!status.ok()) (void)Execute(database_, "rollback");
  return status;
}

}  // namespace studio::controller
