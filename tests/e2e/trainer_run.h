// Runs the real studio-trainer as a child process, for tests.
//
//   TrainerRun run({"--job", job, "--out", out});
//   EXPECT_EQ(run.Wait(), 0);                // exit code; -signal where a signal ended it
//   run.output()                             // what it printed, stdout and stderr
//
// The child dies with the object. One thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/env/process.h"

namespace studio {

class TrainerRun {
 public:
  // `channel`: start it with an agent's socket (STUDIO_AGENT_FD). `program`: by default, the one built beside the test.
  explicit TrainerRun(std::vector<std::string> arguments, bool channel = false,
                      const std::string& program = "worker/trainer/studio-trainer");

  // Reads output until a line holds `text`; false where the process ended before.
  bool WaitForLine(const std::string& text);
  void Kill(int signal) { process_->Kill(signal); }
  int Wait();

  const std::string& output() const { return output_; }
  // The agent's end of the socketpair.
  int channel() const { return process_->channel(); }

 private:
  // False at the end of the output.
  bool ReadSome();

  std::unique_ptr<Process> process_;
  std::string output_;
  size_t searched_ = 0;
};

}  // namespace studio
