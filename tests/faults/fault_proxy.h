// A TCP connection's way as a test wants it to be: bytes held in one direction or both, connections reset.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<FaultProxy> way, FaultProxy::Start("127.0.0.1:7070"));
//   … a worker dials way->address() …
//   way->Hold(/*up=*/true, /*down=*/false);   // it is heard no more, and still hears
//   way->Hold(false, false);                  // what waited arrives
//   way->Cut();                               // every connection is reset; new ones are taken
//   way->HoldAfter(4 << 20);                  // once so many bytes went up, no more do
//
// The methods are thread-safe; one thread of its own carries the bytes.
#pragma once

#include <netinet/in.h>

#include <condition_variable>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/unique_fd.h"

namespace studio {

class FaultProxy {
 public:
  // `target`: address:port, dialled for each connection anew; where nobody listens the connection is closed.
  // `listen`: an address of this machine and a port, 0 for any.
  static absl::StatusOr<std::unique_ptr<FaultProxy>> Start(const std::string& target,
                                                           const std::string& listen = "127.0.0.1:0");
  ~FaultProxy();

  const std::string& address() const { return address_; }
  // `up`: towards the target.
  void Hold(bool up, bool down);
  void Cut();
  // From now on `bytes` more go up, and some of the one read beyond.
  void HoldAfter(int64_t bytes);
  // DeadlineExceeded where HoldAfter's bytes are not through within Patience of a minute.
  absl::Status AwaitHeld();
  // So far, over all connections.
  int64_t bytes_up();

 private:
  struct Connection {
    UniqueFd client, target;
    bool over = false;
  };
  FaultProxy(UniqueFd listener, std::string address, const sockaddr_in& target);
  void Carry();
  void Accept();
  void Wake();

  const UniqueFd listener_;
  const std::string address_;
  const sockaddr_in target_;
  UniqueFd wake_read_, wake_write_;
  std::vector<Connection> connections_;  // the thread's
  std::mutex mutex_;
  std::condition_variable held_;
  // Guarded by mutex_:
  bool hold_up_ = false, hold_down_ = false, cut_ = false, stopping_ = false;
  int64_t bytes_up_ = 0, hold_after_ = std::numeric_limits<int64_t>::max();
  std::thread thread_;
};

}  // namespace studio
