// Child processes behind an interface; PosixLauncher is the real one. Children start by posix_spawn: forking a process
// that runs gRPC is unsafe.
//
//   LaunchSpec spec{.argv = {"/usr/bin/studio-trainer", "--task", file}, .environment = {"RANK=0"}};
//   spec.channel = true;                       // the child's end of a socketpair is kChannelFd there
//   ASSIGN_OR_RETURN(std::unique_ptr<Process> rank, launcher.Launch(spec));
//   … watch rank->channel(), rank->output() and rank->ended() in an event loop …
//   if (std::optional<ProcessEnd> end = rank->Reap()) { … end->exit_code, end->signal … }
//
// A child leads a process group of its own: Kill reaches its children too, and Reap leaves none of them behind.
// Threading: a Process belongs to one thread. Launch is safe from any thread.
// Ownership: the Process owns the descriptors that it returns. Destroying a Process kills the group and reaps it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace studio {

// The number of the channel in the child.
inline constexpr int kChannelFd = 3;

// A descriptor of ours that the child gets, under the number `child_fd` (above kChannelFd).
struct InheritedFd {
  int fd;
  int child_fd;
};

struct LaunchSpec {
  enum class Output {
    // Ours.
    kInherit,
    // Standard output comes through Process::output(); errors go where ours go.
    kPipe,
    // Standard output and errors both come through Process::output().
    kPipeBoth,
  };
  // The program's path, then its arguments.
  std::vector<std::string> argv = {};
  // All of it, as NAME=VALUE.
  std::vector<std::string> environment = {};
  // Working folder. Empty: ours.
  std::string folder = {};
  Output output = Output::kInherit;
  bool channel = false;
  std::vector<InheritedFd> inherited = {};
};

// How a process ended: by itself (signal 0) or by a signal.
struct ProcessEnd {
  int exit_code = 0;
  int signal = 0;
  bool operator==(const ProcessEnd&) const = default;
};

class Process {
 public:
  virtual ~Process() = default;

  virtual int pid() const = 0;
  // Our end of the socketpair, non-blocking. -1 where the spec wanted none.
  virtual int channel() const = 0;
  // What the process prints, non-blocking. -1 where the spec wanted none.
  virtual int output() const = 0;
  // Readable once the process has ended.
  virtual int ended() const = 0;

  // Sends a signal to the whole group. Nothing happens once it was reaped.
  virtual void Kill(int signal) = 0;

  // Empty while it runs. Else kills what is left of its group and says how it ended, again and again if asked.
  virtual std::optional<ProcessEnd> Reap() = 0;
};

class Launcher {
 public:
  virtual ~Launcher() = default;
  // NotFound or PermissionDenied where the program cannot be started.
  virtual absl::StatusOr<std::unique_ptr<Process>> Launch(const LaunchSpec& spec) = 0;
};

// Runs a program to its end and returns what it printed; errors go where ours go. An end other than exit code 0 is
// FailedPrecondition. Blocks.
absl::StatusOr<std::string> RunForOutput(Launcher& launcher, LaunchSpec spec);

// Our environment, with these NAME=VALUE in it.
std::vector<std::string> EnvironmentWith(const std::vector<std::string>& additions);

}  // namespace studio
