#include "common/env/posix_launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "common/env/posix_env.h"
#include "common/env/unique_fd.h"
#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio {
namespace {

// Above every number that a child's descriptor may get, so that one dup2 never overwrites another's source.
constexpr int kFirstSourceFd = 64;

struct FdPair {
  UniqueFd ours;
  UniqueFd theirs;
};

absl::Status MakeNonBlocking(int fd) {
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) return PosixError(errno, "setting up", "a descriptor");
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> Raise(UniqueFd fd) {
  UniqueFd raised(fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstSourceFd));
  if (!raised.valid()) return PosixError(errno, "duplicating", "a descriptor");
  return raised;
}

// Nothing is ever inherited by chance: everything is close-on-exec from its first moment.
absl::StatusOr<FdPair> MakeChannel() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return PosixError(errno, "making", "a socketpair");
  FdPair pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
  RETURN_IF_ERROR(MakeNonBlocking(pair.ours.get()));
  ASSIGN_OR_RETURN(pair.theirs, Raise(std::move(pair.theirs)));
  return pair;
}

absl::StatusOr<FdPair> MakePipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return PosixError(errno, "making", "a pipe");
  FdPair pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
  RETURN_IF_ERROR(MakeNonBlocking(pair.ours.get()));
  ASSIGN_OR_RETURN(pair.theirs, Raise(std::move(pair.theirs)));
  return pair;
}

std::vector<char*> Pointers(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

class PosixProcess : public Process {
 public:
  PosixProcess(pid_t pid, UniqueFd channel, UniqueFd output, FdPair ended)
      : pid_(pid), channel_(std::move(channel)), output_(std::move(output)), ended_(std::move(ended.ours)) {
    // Only looks (WNOWAIT): the zombie keeps the pid and the group's number ours until Reap has used them.
    waiter_ = std::thread([pid, notify = std::move(ended.theirs)] {
      siginfo_t info;
      while (waitid(P_PID, pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
      }
    });  // notify closes: the other end becomes readable
  }

  ~PosixProcess() override {
    Kill(SIGKILL);
    waiter_.join();
    Reap();
  }

  int pid() const override { return pid_; }
  int channel() const override { return channel_.valid() ? channel_.get() : -1; }
  int output() const override { return output_.valid() ? output_.get() : -1; }
  int ended() const override { return ended_.get(); }

  void Kill(int signal) override {
    if (!end_) kill(-pid_, signal);
  }

  std::optional<ProcessEnd> Reap() override {
    if (end_) return end_;
    siginfo_t info = {};
    if (waitid(P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return std::nullopt;
    kill(-pid_, SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0) STUDIO_CHECK(errno == EINTR) << "pid " << pid_ << " was reaped by another";
    end_ = WIFSIGNALED(status) ? ProcessEnd{0, WTERMSIG(status)} : ProcessEnd{WEXITSTATUS(status), 0};
    return end_;
  }

 private:
  const pid_t pid_;
  const UniqueFd channel_;
  const UniqueFd output_;
  const UniqueFd ended_;
  std::thread waiter_;
  std::optional<ProcessEnd> end_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Process>> PosixLauncher::Launch(const LaunchSpec& spec) {
  STUDIO_CHECK(!spec.argv.empty());
  FdPair channel, output;
  if (spec.channel) {
    ASSIGN_OR_RETURN(channel, MakeChannel());
  }
  if (spec.output != LaunchSpec::Output::kInherit) {
    ASSIGN_OR_RETURN(output, MakePipe());
  }
  ASSIGN_OR_RETURN(FdPair ended, MakePipe());

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const absl::Cleanup free_actions = [&] { posix_spawn_file_actions_destroy(&actions); };
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (output.theirs.valid()) {
    posix_spawn_file_actions_adddup2(&actions, output.theirs.get(), STDOUT_FILENO);
    if (spec.output == LaunchSpec::Output::kPipeBoth) {
      posix_spawn_file_actions_adddup2(&actions, output.theirs.get(), STDERR_FILENO);
    }
  }
  if (channel.theirs.valid()) posix_spawn_file_actions_adddup2(&actions, channel.theirs.get(), kChannelFd);
  std::vector<UniqueFd> raised;
  for (const InheritedFd& inherited : spec.inherited) {
    STUDIO_CHECK(inherited.child_fd > kChannelFd && inherited.child_fd < kFirstSourceFd) << inherited.child_fd;
    raised.emplace_back(fcntl(inherited.fd, F_DUPFD_CLOEXEC, kFirstSourceFd));
    if (!raised.back().valid()) return PosixError(errno, "duplicating", "an inherited descriptor");
    posix_spawn_file_actions_adddup2(&actions, raised.back().get(), inherited.child_fd);
  }
  if (!spec.folder.empty()) posix_spawn_file_actions_addchdir_np(&actions, spec.folder.c_str());

  // The child starts with every signal as a shell would give it, whatever this process blocks or ignores.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  const absl::Cleanup free_attributes = [&] { posix_spawnattr_destroy(&attributes); };
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  pid_t pid = 0;
  const int error = posix_spawn(&pid, spec.argv[0].c_str(), &actions, &attributes, Pointers(spec.argv).data(),
                                Pointers(spec.environment).data());
  if (error != 0) return PosixError(error, "starting", spec.argv[0]);
  return std::make_unique<PosixProcess>(pid, std::move(channel.ours), std::move(output.ours), std::move(ended));
}

}  // namespace studio
