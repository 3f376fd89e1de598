// The unary calls that are under way, up to a number: each holds at most one batch of the store's queue, so that is
// bounded, too.
//
//   ASSIGN_OR_RETURN(auto place, calls.Enter());   // Unavailable where there are too many
//   … until the last copy of `place` is gone …
//
// Thread-safe. Outlives its places.
#pragma once

#include <atomic>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace studio::controller {

class CallCount {
 public:
  class Place {
   public:
    explicit Place(std::atomic<int>& count) : count_(count) {}
    ~Place() { --count_; }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    std::atomic<int>& count_;
  };

  explicit CallCount(int most = 10'000) : most_(most) {}

  absl::StatusOr<std::shared_ptr<const Place>> Enter() {
    auto place = std::make_shared<const Place>(count_);
    if (++count_ <= most_) return place;
    return absl::UnavailableError(absl::StrCat("the controller has ", most_, " calls under way; try again later"));
  }

 private:
  const int most_;
  std::atomic<int> count_ = 0;
};

}  // namespace studio::controller
