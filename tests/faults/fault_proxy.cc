#include "tests/faults/fault_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "common/status/macros.h"
#include "common/time/patience.h"

namespace studio {
namespace {

absl::StatusOr<sockaddr_in> Parse(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  int port = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &port)) return absl::InvalidArgumentError(text);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, parts[0].c_str(), &address.sin_addr) != 1) return absl::InvalidArgumentError(text);
  return address;
}

// A close that the other end sees as a reset.
void Reset(UniqueFd& fd) {
  const linger at_once = {1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  fd = UniqueFd();
}

// Takes what is there to the other side and counts it; false once either is gone. Blocks while the other side takes
// nothing: a connection of a test holds few bytes.
bool Pass(const UniqueFd& from, const UniqueFd& to, int64_t& passed) {
  char bytes[64 << 10];
  const ssize_t got = read(from.get(), bytes, sizeof bytes);
  if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t put = send(to.get(), bytes + sent, got - sent, MSG_NOSIGNAL);
    if (put <= 0) return false;
    sent += put;
  }
  passed += got;
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FaultProxy>> FaultProxy::Start(const std::string& target, const std::string& listen_on) {
  ASSIGN_OR_RETURN(const sockaddr_in to, Parse(target));
  ASSIGN_OR_RETURN(sockaddr_in address, Parse(listen_on));
  UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  socklen_t size = sizeof address;
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener.get(), 64) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("listen on ", listen_on));
  }
  const std::string host = listen_on.substr(0, listen_on.find(':'));
  return std::unique_ptr<FaultProxy>(
      new FaultProxy(std::move(listener), absl::StrCat(host, ":", ntohs(address.sin_port)), to));
}

FaultProxy::FaultProxy(UniqueFd listener, std::string address, const sockaddr_in& target)
    : listener_(std::move(listener)), address_(std::move(address)), target_(target) {
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

void FaultProxy::HoldAfter(int64_t bytes) {
  std::lock_guard lock(mutex_);
  hold_after_ = bytes_up_ + bytes;
}

absl::Status FaultProxy::AwaitHeld() {
  std::unique_lock lock(mutex_);
  const auto limit = absl::ToChronoNanoseconds(Patience(absl::Minutes(1)));
  if (held_.wait_for(lock, limit, [this] { return hold_up_; })) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat(bytes_up_, " bytes went up, and ", hold_after_, " were waited for"));
}

int64_t FaultProxy::bytes_up() {
  std::lock_guard lock(mutex_);
  return bytes_up_;
}

void FaultProxy::Wake() { [[maybe_unused]] const ssize_t written = write(wake_write_.get(), "x", 1); }

void FaultProxy::Accept() {
  UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client.valid()) return;
  UniqueFd target(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(target.get(), reinterpret_cast<const sockaddr*>(&target_), sizeof target_) != 0) return;
  const int on = 1;
  for (const UniqueFd* fd : {&client, &target}) setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  connections_.push_back({std::move(client), std::move(target)});
}

void FaultProxy::Carry() {
  int64_t went_up = 0, went_down = 0;
  for (;;) {
    bool up, down;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      bytes_up_ = went_up;
      if (bytes_up_ >= hold_after_) {
        hold_up_ = true;
        hold_after_ = std::numeric_limits<int64_t>::max();
        held_.notify_all();
      }
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
      if (wait[2 + 2 * i].revents != 0) connection.over |= !Pass(connection.client, connection.target, went_up);
      if (wait[3 + 2 * i].revents != 0) connection.over |= !Pass(connection.target, connection.client, went_down);
    }
    std::erase_if(connections_, [](const Connection& connection) { return connection.over; });
    if (wait[1].revents != 0) Accept();
  }
}

}  // namespace studio
