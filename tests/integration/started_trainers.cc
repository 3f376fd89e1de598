#include "tests/integration/started_trainers.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/status/macros.h"
#include "common/time/patience.h"
#include "tests/e2e/tiny_model.h"

namespace studio {
namespace {

bool Readable(int fd, int timeout_ms) {
  pollfd wait = {fd, POLLIN, 0};
  int ready;
  while ((ready = poll(&wait, 1, timeout_ms)) < 0 && errno == EINTR) {
  }
  return ready > 0;
}

absl::Status AwaitReadable(int fd, const std::string& what) {
  const absl::Duration patience = Patience(absl::Minutes(2));
  if (Readable(fd, static_cast<int>(absl::ToInt64Milliseconds(patience)))) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat(what, " did not come within ", absl::FormatDuration(patience)));
}

absl::Status Errno(const std::string& what) { return absl::ErrnoToStatus(errno, what); }

// A lock for each job. It goes with the process, however it ends: a start that does not get it is a second trainer of
// the job at once.
std::string Script(const std::string& folder, const std::string& trainer) {
  return absl::StrCat(
      "#!/bin/sh\nif [ \"$1\" = --task ]; then\n  exec 9>'", folder,
      "/alive-'\"$STUDIO_JOB_ID\"\n  flock -n 9 || echo \"process $$ of $STUDIO_JOB_ID, attempt $STUDIO_ATTEMPT\" >>'",
      folder, "/overlaps'\n  echo \"$$ $STUDIO_JOB_ID $STUDIO_ATTEMPT\" >'", folder, "/starts'\nfi\nexec '", trainer,
      "' \"$@\"\n");
}

}  // namespace

bool StartedTrainer::Ended() const { return Readable(process_.get(), 0); }

absl::Status StartedTrainer::AwaitEnd() const {
  return AwaitReadable(process_.get(), absl::StrCat("the end of process ", pid_));
}

absl::Status StartedTrainer::Kill() const {
  if (Ended()) return absl::NotFoundError(absl::StrCat("process ", pid_, " ended before it could be killed"));
  if (syscall(SYS_pidfd_send_signal, process_.get(), SIGKILL, nullptr, 0) != 0) return Errno("pidfd_send_signal");
  return absl::OkStatus();
}

absl::StatusOr<StartedTrainers> StartedTrainers::Create(const std::string& folder, const std::string& trainer) {
  const std::string starts = folder + "/starts";
  if (mkfifo(starts.c_str(), 0600) != 0) return Errno(starts);
  // For writing too: whoever writes a line never waits, and there is no end of file between two of them.
  UniqueFd fd(open(starts.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return Errno(starts);
  StartedTrainers trainers(folder, std::move(fd));
  RETURN_IF_ERROR(WriteText(trainers.program(), Script(folder, std::filesystem::absolute(trainer).string())));
  if (chmod(trainers.program().c_str(), 0755) != 0) return Errno(trainers.program());
  return trainers;
}

absl::StatusOr<StartedTrainer> StartedTrainers::Next() {
  size_t end;
  while ((end = unread_.find('\n')) == std::string::npos) {
    RETURN_IF_ERROR(AwaitReadable(starts_.get(), "the start of a trainer"));
    char bytes[4096];
    const ssize_t got = read(starts_.get(), bytes, sizeof bytes);
    if (got <= 0) return Errno("starts");
    unread_.append(bytes, got);
  }
  const std::vector<std::string> words = absl::StrSplit(unread_.substr(0, end), ' ');
  unread_.erase(0, end + 1);
  int pid = 0, attempt = 0;
  if (words.size() != 3 || !absl::SimpleAtoi(words[0], &pid) || !absl::SimpleAtoi(words[2], &attempt)) {
    return absl::InternalError("a start that cannot be read");
  }
  UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return Errno(absl::StrCat("process ", pid));
  return StartedTrainer(std::move(process), pid, words[1], attempt);
}

bool StartedTrainers::More() const { return !unread_.empty() || Readable(starts_.get(), 0); }

std::string StartedTrainers::overlaps() const {
  std::ostringstream text;
  std::ifstream file(folder_ + "/overlaps");
  if (file) text << file.rdbuf();
  return text.str();
}

absl::StatusOr<NewEntries> NewEntries::In(const std::string& folder) {
  UniqueFd notices(inotify_init1(IN_CLOEXEC));
  if (!notices.valid() || inotify_add_watch(notices.get(), folder.c_str(), IN_CREATE | IN_MOVED_TO) < 0) {
    return Errno(folder);
  }
  return NewEntries(std::move(notices));
}

absl::Status NewEntries::Await(const std::string& prefix, int least) {
  while (true) {
    RETURN_IF_ERROR(AwaitReadable(notices_.get(), absl::StrCat(prefix, least)));
    alignas(inotify_event) char bytes[16 << 10];
    const ssize_t got = read(notices_.get(), bytes, sizeof bytes);
    if (got <= 0) return Errno("inotify");
    bool found = false;
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(bytes + at);
      absl::string_view name(event->len > 0 ? event->name : "");
      int number = 0;
      found |= absl::ConsumePrefix(&name, prefix) && absl::SimpleAtoi(name, &number) && number >= least;
      at += static_cast<ssize_t>(sizeof(inotify_event)) + event->len;
    }
    if (found) return absl::OkStatus();
  }
}

}  // namespace studio
