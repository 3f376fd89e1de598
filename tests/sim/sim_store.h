// The controller's store: what it writes takes time, fails, and is there or not after a crash. What is durable lies in
// a MemoryStore that outlives the process.
//
// One write at a time, which takes all batches that wait: as SqliteStore does.
#pragma once

#include <deque>
#include <optional>

#include "controller/store/memory_store.h"
#include "tests/sim/engine.h"
#include "tests/sim/history.h"
#include "tests/sim/random.h"

namespace studio::sim {

// What outlives the process.
struct StoreDisk {
  enum class Ill { kNot, kFails, kAnswerLost, kCrashBefore, kCrashAfter };

  explicit StoreDisk(uint64_t seed) : random(seed, "store") {}

  controller::MemoryStore durable;
  Random random;
  bool slow = false;
  // Of the next write.
  Ill ill = Ill::kNot;
  int64_t commits = 0;
};

class SimStore : public controller::Store {
 public:
  SimStore(Engine& engine, History& history, SimProcess& process, StoreDisk& disk)
      : engine_(engine), history_(history), process_(process), disk_(disk) {}

  absl::StatusOr<controller::StoreContents> LoadAll() override { return disk_.durable.LoadAll(); }
  void Commit(controller::Batch batch, Done done) override;
  void FindArchived(int64_t number, Found found) override;
  // The process died: what was being written is there, or is not.
  void Die();

 private:
  struct Waiting {
    controller::Batch batch;
    Done done;
  };
  void StartWrite();
  void EndWrite();
  void MakeDurable(std::deque<Waiting>& group);

  Engine& engine_;
  History& history_;
  SimProcess& process_;
  StoreDisk& disk_;
  std::deque<Waiting> queue_;
  std::deque<Waiting> writing_;
  absl::Status failure_;
};

}  // namespace studio::sim
