// GET /metrics over HTTP, for Prometheus and `curl`: one page, one thread, a connection at a time.
//
//   ASSIGN_OR_RETURN(auto server, MetricsServer::Start("127.0.0.1:7072", [&] { return page; }));
//   std::cout << server->address();
//
// Serves nothing else, keeps no connection and reads no more than a request's head, for at most two seconds: a scraper
// that hangs holds nobody up but other scrapers. The destructor ends it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/statusor.h"
#include "common/env/unique_fd.h"

namespace studio {

class MetricsServer {
 public:
  // `address`: IPv4 host:port; port 0 picks one. `page` runs on the server's thread. InvalidArgument, Unavailable.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& address,
                                                              std::function<std::string()> page);
  ~MetricsServer();

  // As it came to be.
  const std::string& address() const { return address_; }

 private:
  MetricsServer(UniqueFd listener, std::string address, std::function<std::string()> page);
  void Run();
  void Answer(const UniqueFd& connection);

  const UniqueFd listener_;
  const std::string address_;
  const std::function<std::string()> page_;
  UniqueFd wake_read_, wake_write_;
  std::thread thread_;
};

// The status line and headers, or the page, that answer a request's head.
std::string AnswerTo(std::string_view head, const std::function<std::string()>& page);

}  // namespace studio
