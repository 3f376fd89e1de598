// A TCP connection's way as a test wants it to be: bytes held in one direction or both, connections reset.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<FaultProxy> way, FaultProxy::Start("127.0.0.1:7070"));
//   … a worker dials way->address() …
//   way->Hold(/*up=*/true, /*down=*/false);   // it is heard no more, and still hears
//   way->Hold(false, false);                  // what waited arrives
//   way->Cut();                               // every connection is reset; new ones are taken
//
// The methods are thread-safe; one thread of its own carries the bytes.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/env/unique_fd.h"

namespace studio {

class FaultProxy {
 public:
  // `target`: host:port, dialled for each connection anew; where nobody listens the connection is closed.
  static absl::StatusOr<std::unique_ptr<FaultProxy>> Start(const std::string& target);
  ~FaultProxy();

  const std::string& address() const { return address_; }
  // `up`: towards the target.
  void Hold(bool up, bool down);
  void Cut();

 private:
  struct Connection {
    UniqueFd client, target;
    bool over = false;
  };
  FaultProxy(UniqueFd listener, std::string address, int target_port);
  void Carry();
  void Accept();
  void Wake();

  const UniqueFd listener_;
  const std::string address_;
  const int target_port_;
  UniqueFd wake_read_, wake_write_;
  std::vector<Connection> connections_;  // the thread's
  std::mutex mutex_;
  bool hold_up_ = false, hold_down_ = false, cut_ = false, stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace studio
