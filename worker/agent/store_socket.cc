#include "worker/agent/store_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace studio::worker {

absl::StatusOr<StoreSocket> ListenForStore() {
  StoreSocket made;
  made.fd.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (!made.fd.valid() || bind(made.fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(made.fd.get(), SOMAXCONN) != 0 ||
      getsockname(made.fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return absl::UnavailableError(
        absl::StrCat("no socket on the loopback for the ranks to meet at: ", strerror(errno)));
  }
  made.port = ntohs(address.sin_port);
  return made;
}

}  // namespace studio::worker
