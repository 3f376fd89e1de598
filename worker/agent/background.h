// Work that blocks (transfers, hashing), off the loop; its outcome comes back to the loop. ThreadBackground is the real
// one.
//
//   background.Run([=] {                       // elsewhere
//     absl::Status status = artifacts.Fetch(…);
//     return [=] { OnFetched(status); };       // on the loop
//   });
//
// Threading: Run belongs to the loop's thread.
#pragma once

#include <functional>

namespace studio::worker {

class Background {
 public:
  using Work = std::function<std::function<void()>()>;

  virtual ~Background() = default;
  virtual void Run(Work work) = 0;
};

}  // namespace studio::worker
