#include "controller/api/authorize.h"

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace studio::controller {

bool IsLoopback(const std::string& address) {
  const std::string host = address.substr(0, address.rfind(':'));
  if (host == "localhost" || host == "[::1]") return true;
  const std::vector<std::string> parts = absl::StrSplit(host, '.');
  if (parts.size() != 4 || parts[0] != "127") return false;
  for (const std::string& part : parts) {
    if (part.empty() || part.size() > 3 || part.find_first_not_of("0123456789") != std::string::npos) return false;
  }
  return true;
}

Caller Identify(const grpc::CallbackServerContext& context) {
  // "ipv4:127.0.0.1:4711" or, percent-encoded, "ipv6:%5B::1%5D:4711".
  const std::string peer = context.peer();
  const bool local = absl::StartsWith(peer, "ipv4:127.") || absl::StartsWith(peer, "ipv6:%5B::1%5D:") ||
                     absl::StartsWith(peer, "ipv6:[::1]:") || absl::StartsWith(peer, "unix:");
  return {local ? "local" : "anonymous"};
}

absl::Status Authorize(const Caller& caller, const std::string& action, const std::string& resource) {
  if (!caller.owner.empty()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("a caller without a name may not do ", action, " on ", resource));
}

}  // namespace studio::controller
