#include "tests/faults/far_side.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/env/process.h"
#include "common/status/macros.h"

namespace studio {
namespace {

absl::StatusOr<std::string> FindProgram(const std::string& name) {
  for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
    const std::string path = folder + name;
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return absl::NotFoundError(name + " is not installed (Debian: iproute2, util-linux)");
}

}  // namespace

absl::StatusOr<std::unique_ptr<FarSide>> FarSide::Create() {
  for (const char* program : {"ip", "tc", "nsenter"}) RETURN_IF_ERROR(FindProgram(program).status());
  if (unshare(CLONE_NEWNET) != 0) return absl::ErrnoToStatus(errno, "a network namespace of one's own");
  // A thread's namespace lives on in the descriptor.
  int fd = -1;
  std::thread([&fd] {
    if (unshare(CLONE_NEWNET) == 0) fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  }).join();
  if (fd < 0) return absl::PermissionDeniedError("a second network namespace");
  std::unique_ptr<FarSide> side(new FarSide(UniqueFd(fd)));
  RETURN_IF_ERROR(side->Run({"ip", "link", "set", "lo", "up"}));
  RETURN_IF_ERROR(
      side->Run({"ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", side->SpacePath()}));
  RETURN_IF_ERROR(side->Run({"ip", "address", "add", side->near_address() + "/24", "dev", "near"}));
  RETURN_IF_ERROR(side->Run({"ip", "link", "set", "near", "up"}));
  const auto far = [&](std::vector<std::string> command) {
    std::vector<std::string> there = side->prefix();
    there.insert(there.end(), command.begin(), command.end());
    return side->Run(std::move(there));
  };
  RETURN_IF_ERROR(far({"ip", "link", "set", "lo", "up"}));
  RETURN_IF_ERROR(far({"ip", "address", "add", "10.77.0.2/24", "dev", "far"}));
  RETURN_IF_ERROR(far({"ip", "link", "set", "far", "up"}));
  return side;
}

std::string FarSide::SpacePath() const { return absl::StrCat("/proc/", getpid(), "/fd/", space_.get()); }

std::vector<std::string> FarSide::prefix() const {
  return {*FindProgram("nsenter"), absl::StrCat("--net=", SpacePath())};
}

absl::Status FarSide::Cut(bool up, bool down) {
  // A queue without room at the end that sends: what is sent is gone, and its sender hears nothing of it.
  const auto set = [&](const char* device, bool far, bool cut, bool& is_cut) -> absl::Status {
    if (cut == is_cut) return absl::OkStatus();
    std::vector<std::string> command = far ? prefix() : std::vector<std::string>{};
    for (const char* word : {"tc", "qdisc", cut ? "add" : "del", "dev", device, "root"}) command.push_back(word);
    if (cut) command.insert(command.end(), {"pfifo", "limit", "0"});
    RETURN_IF_ERROR(Run(std::move(command)));
    is_cut = cut;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(set("far", true, up, up_cut_));
  return set("near", false, down, down_cut_);
}

absl::Status FarSide::Run(std::vector<std::string> command) {
  for (std::string& word : command) {
    if (word == "ip" || word == "tc") {
      ASSIGN_OR_RETURN(word, FindProgram(word));
    }
  }
  LaunchSpec spec;
  spec.argv = std::move(command);
  spec.environment = EnvironmentWith({});
  return RunForOutput(launcher_, std::move(spec)).status();
}

}  // namespace studio
