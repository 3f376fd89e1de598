#include "tests/faults/fault_proxy.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace studio {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// A close that the other end sees as a reset.
void Reset(UniqueFd& fd) {
  const linger at_once = {1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  fd = UniqueFd();
}

// Takes what is there to the other side; false once either is gone. Blocks while the other side takes nothing: a
// connection of a test holds few bytes.
bool Pass(const UniqueFd& from, const UniqueFd& to) {
  char bytes[64 << 10];
  const ssize_t got = read(from.get(), bytes, sizeof bytes);
  if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t put = send(to.get(), bytes + sent, got - sent, MSG_NOSIGNAL);
    if (put <= 0) return false;
    sent += put;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FaultProxy>> FaultProxy::Start(const std::string& target) {
  const std::vector<std::string> parts = absl::StrSplit(target, ':');
  int port = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &port)) return absl::InvalidArgumentError(target);
  UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof address;
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener.get(), 64) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return absl::ErrnoToStatus(errno, "listen");
  }
  return std::unique_ptr<FaultProxy>(
      new FaultProxy(std::move(listener), absl::StrCat("127.0.0.1:", ntohs(address.sin_port)), port));
}

FaultProxy::FaultProxy(UniqueFd listener, std::string address, int target_port)
    : listener_(std::move(listener)), address_(std::move(address)), target_port_(target_port) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
    wake_read_ = UniqueFd(ends[0]);
    wake_write_ = UniqueFd(ends[1]);
  }
  thread_ = std::thread([this] { Carry(); });
}

FaultProxy::~FaultProxy() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
}

void FaultProxy::Hold(bool up, bool down) {
  {
    std::lock_guard lock(mutex_);
    hold_up_ = up;
    hold_down_ = down;
  }
  Wake();
}

void FaultProxy::Cut() {
  {
    std::lock_guard lock(mutex_);
    cut_ = true;
  }
  Wake();
}

void FaultProxy::Wake() { [[maybe_unused]] const ssize_t written = write(wake_write_.get(), "x", 1); }

void FaultProxy::Accept() {
  UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client.valid()) return;
  UniqueFd target(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(target_port_);
  if (connect(target.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return;
  const int on = 1;
  for (const UniqueFd* fd : {&client, &target}) setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  connections_.push_back({std::move(client), std::move(target)});
}

void FaultProxy::Carry() {
  for (;;) {
    bool up, down;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      up = !hold_up_;
      down = !hold_down_;
      if (std::exchange(cut_, false)) {
        for (Connection& connection : connections_) {
          Reset(connection.client);
          Reset(connection.target);
        }
        connections_.clear();
      }
    }
    // A side that is held is not even asked whether it has ended: a cable that was pulled says nothing.
    std::vector<pollfd> wait = {{wake_read_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Connection& connection : connections_) {
      wait.push_back({up ? connection.client.get() : -1, POLLIN, 0});
      wait.push_back({down ? connection.target.get() : -1, POLLIN, 0});
    }
    if (poll(wait.data(), wait.size(), -1) < 0 && errno != EINTR) return;
    char drained[256];
    while (read(wake_read_.get(), drained, sizeof drained) > 0) {
    }
    for (size_t i = 0; i < connections_.size(); ++i) {
      Connection& connection = connections_[i];
      if (wait[2 + 2 * i].revents != 0) connection.over |= !Pass(connection.client, connection.target);
      if (wait[3 + 2 * i].revents != 0) connection.over |= !Pass(connection.target, connection.client);
    }
    std::erase_if(connections_, [](const Connection& connection) { return connection.over; });
    if (wait[1].revents != 0) Accept();
  }
}

}  // namespace studio
