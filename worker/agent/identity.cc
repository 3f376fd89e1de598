#include "worker/agent/identity.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status/macros.h"

namespace studio::worker {
namespace {

constexpr char kBootIdPath[] = "/proc/sys/kernel/random/boot_id";

}  // namespace

absl::StatusOr<Identity> StartIdentity(Env& env, const std::string& state_dir, const std::string& hostname,
                                       uint64_t random) {
  Identity identity;
  const std::string path = absl::StrCat(state_dir, "/worker");
  if (env.Exists(path)) {
    ASSIGN_OR_RETURN(const std::string text, env.ReadFile(path));
    const std::vector<std::string> words = absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
    if (words.size() != 2 || !absl::SimpleAtoi(words[1], &identity.incarnation)) {
      return absl::DataLossError(absl::StrCat(path, " should hold an id and a number, and holds \"", text,
                                              "\": remove the state folder to start as a new worker"));
    }
    identity.worker_id = words[0];
  } else {
    identity.worker_id =
        absl::StrCat(hostname.empty() ? "worker" : hostname, "-", absl::Hex(random & 0xffffffff, absl::kZeroPad8));
  }
  ++identity.incarnation;
  RETURN_IF_ERROR(env.WriteFile(path, absl::StrCat(identity.worker_id, " ", identity.incarnation, "\n")));
  // Not there on a Mac: then only the ranks' lock proves anything.
  if (const absl::StatusOr<std::string> boot = env.ReadFile(kBootIdPath); boot.ok()) {
    identity.boot_id = std::string(absl::StripAsciiWhitespace(*boot));
  }
  return identity;
}

}  // namespace studio::worker
