// The store on disk: one SQLite file, one connection, one writer thread. WAL with synchronous=FULL, so that a commit is
// one fsync; whatever waits when the writer comes round shares it. Never put the file on a network file system.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<SqliteStore> store, SqliteStore::Open("/var/lib/studio/controller.db"));
//
// BackUp copies the whole file while commits go on: a few pages between two groups of them, so that nobody waits long.
//
// A file of an older schema is migrated when it is opened: first copied beside itself as `path`.schema-N, then changed
// in one transaction. One of a newer schema is refused.
//
// LoadAll before the first Commit. `done` runs on the writer thread and must not block. The destructor writes what
// waits, then closes. docs/failure_model.md says what is stored when.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "common/metrics/metrics.h"
#include "controller/store/store.h"

struct sqlite3;

namespace studio::controller {

class SqliteStore : public Store {
 public:
  // kLeave: for who reads a backup that an older version wrote. Only counters may be committed then.
  enum class Migration { kForward, kLeave };
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& path,
                                                           Migration migration = Migration::kForward);
  ~SqliteStore() override;

  absl::StatusOr<StoreContents> LoadAll() override;
  void Commit(Batch batch, Done done) override;
  void FindArchived(int64_t number, Found found) override;

  // Writes what is stored at one moment, with everything committed before this call, into a new file at `path`. `done`
  // runs on the writer thread; a file that could not be finished is removed. One at a time: FailedPrecondition.
  void BackUp(std::string path, Done done);

  // Reads the whole file; DataLoss where its pages do not hold together. Before the first Commit.
  absl::Status CheckFile();
  // Numbers of the archive's jobs. DataLoss names one that cannot be read. Before the first Commit.
  absl::StatusOr<std::set<int64_t>> CheckArchive();

  // Transactions so far: fewer than batches where several shared one.
  int64_t transactions() const;
  // What Prometheus is told (docs/metrics.md).
  void Describe(MetricsText& text) const;

 private:
  SqliteStore(sqlite3* database, int schema);
  struct Waiting {
    Batch batch;
    Done done;
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
  };
  struct Copy;
  void Write();
  void Step(std::unique_ptr<Copy>& copy, bool idle);
  absl::Status WriteTogether(const std::deque<Waiting>& group);

  sqlite3* const database_;
  const int schema_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Waiting> queue_;   // guarded by mutex_
  std::unique_ptr<Copy> copy_;  // guarded by mutex_: on its way to the writer
  bool copying_ = false;        // guarded by mutex_
  bool stopping_ = false;       // guarded by mutex_
  Histogram commit_seconds_;    // guarded by mutex_
  int64_t transactions_ = 0;    // guarded by mutex_
  absl::Status failure_;        // the writer's alone
  std::thread writer_;
};

}  // namespace studio::controller
