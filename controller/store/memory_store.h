// A store that forgets when it dies: for tests and simulation. `done` runs inside Commit, on the caller's thread.
#pragma once

#include "controller/store/store.h"

namespace studio::controller {

class MemoryStore : public Store {
 public:
  absl::StatusOr<StoreContents> LoadAll() override;
  void Commit(Batch batch, Done done) override;
  void FindArchived(int64_t number, Found found) override;

  // Every commit from now on fails, as on a full disk.
  void FailFromNowOn(absl::Status failure) { failure_ = std::move(failure); }

 private:
  StoreContents contents_;
  std::map<int64_t, v1::JobRecord> archive_;
  absl::Status failure_;
};

}  // namespace studio::controller
