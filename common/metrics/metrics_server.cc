#include "common/metrics/metrics_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace studio {
namespace {

constexpr size_t kMaxHeadBytes = 16 << 10;
constexpr auto kPatience = std::chrono::seconds(2);

std::string Response(const std::string& status, const std::string& type, const std::string& body) {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", type, "\r\nContent-Length: ", body.size(),
                      "\r\nConnection: close\r\n\r\n", body);
}

}  // namespace

std::string AnswerTo(std::string_view head, const std::function<std::string()>& page) {
  const std::string line(head.substr(0, head.find("\r\n")));
  const size_t method_end = line.find(' ');
  const size_t path_end = method_end == std::string::npos ? method_end : line.find(' ', method_end + 1);
  if (path_end == std::string::npos || !absl::StartsWith(line.substr(path_end + 1), "HTTP/1.")) {
    return Response("400 Bad Request", "text/plain", "not an HTTP/1 request\n");
  }
  if (line.substr(0, method_end) != "GET") {
    return Response("405 Method Not Allowed", "text/plain", "only GET is served\n");
  }
  const std::string path = line.substr(method_end + 1, path_end - method_end - 1);
  if (path != "/metrics" && !absl::StartsWith(path, "/metrics?")) {
    return Response("404 Not Found", "text/plain", "only /metrics is served\n");
  }
  return Response("200 OK", "text/plain; version=0.0.4; charset=utf-8", page());
}

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const std::string& address,
                                                                    std::function<std::string()> page) {
  const size_t colon = address.rfind(':');
  sockaddr_in where = {};
  where.sin_family = AF_INET;
  int port = -1;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535 ||
      inet_pton(AF_INET, address.substr(0, colon).c_str(), &where.sin_addr) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("\"", address, "\": write it as IPv4-ADDRESS:PORT"));
  }
  where.sin_port = htons(static_cast<uint16_t>(port));
  UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  socklen_t size = sizeof where;
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&where), size) != 0 || listen(listener.get(), 16) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&where), &size) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": ", std::string(strerror(errno))));
  }
  return std::unique_ptr<MetricsServer>(new MetricsServer(
      std::move(listener), absl::StrCat(address.substr(0, colon), ":", ntohs(where.sin_port)), std::move(page)));
}

MetricsServer::MetricsServer(UniqueFd listener, std::string address, std::function<std::string()> page)
    : listener_(std::move(listener)), address_(std::move(address)), page_(std::move(page)) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) == 0) {
    wake_read_ = UniqueFd(ends[0]);
    wake_write_ = UniqueFd(ends[1]);
  }
  thread_ = std::thread([this] { Run(); });
}

MetricsServer::~MetricsServer() {
  wake_write_ = UniqueFd();
  thread_.join();
}

void MetricsServer::Run() {
  for (;;) {
    pollfd wait[] = {{wake_read_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    if (poll(wait, 2, -1) < 0 && errno != EINTR) return;
    if (wait[0].revents != 0) return;
    if (wait[1].revents == 0) continue;
    const UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection.valid()) Answer(connection);
  }
}

void MetricsServer::Answer(const UniqueFd& connection) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::string head;
  while (head.find("\r\n\r\n") == std::string::npos && head.size() < kMaxHeadBytes) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wait[] = {{wake_read_.get(), POLLIN, 0}, {connection.get(), POLLIN, 0}};
    if (left.count() <= 0 || poll(wait, 2, static_cast<int>(left.count())) <= 0 || wait[0].revents != 0) return;
    char bytes[4096];
    const ssize_t got = read(connection.get(), bytes, sizeof bytes);
    if (got <= 0) return;
    head.append(bytes, got);
  }
  const std::string answer = AnswerTo(head, page_);
  const timeval patience = {.tv_sec = kPatience.count(), .tv_usec = 0};
  setsockopt(connection.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  for (size_t sent = 0; sent < answer.size();) {
    const ssize_t put = send(connection.get(), answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
    if (put <= 0) return;
    sent += put;
  }
}

}  // namespace studio
