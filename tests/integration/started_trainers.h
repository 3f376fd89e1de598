// The trainer processes that a worker starts, as a test sees them: when each starts, when it is gone, and whether two
// ever lived at once. The worker runs a small script that tells of itself and then becomes the real trainer.
//
//   ASSERT_OK_AND_ASSIGN(StartedTrainers trainers, StartedTrainers::Create(folder, "worker/trainer/studio-trainer"));
//   … a worker with --trainer trainers.program() …
//   ASSERT_OK_AND_ASSIGN(StartedTrainer first, trainers.Next());   // waits for it
//   ASSERT_OK(first.Kill());
//   EXPECT_EQ(trainers.overlaps(), "");
//
// Waiting ends with DeadlineExceeded after Patience of two minutes. Threading: belongs to one thread.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/unique_fd.h"

namespace studio {

// One process, held by a descriptor: its number is never mistaken for a later process's.
class StartedTrainer {
 public:
  StartedTrainer(UniqueFd process, int pid, std::string job_id, int attempt)
      : process_(std::move(process)), pid_(pid), job_id_(std::move(job_id)), attempt_(attempt) {}

  int pid() const { return pid_; }
  const std::string& job_id() const { return job_id_; }
  int attempt() const { return attempt_; }

  bool Ended() const;
  absl::Status AwaitEnd() const;
  // SIGKILL to this process alone. NotFound where it has ended already.
  absl::Status Kill() const;

 private:
  UniqueFd process_;
  int pid_;
  std::string job_id_;
  int attempt_;
};

class StartedTrainers {
 public:
  // `trainer`: the real program.
  static absl::StatusOr<StartedTrainers> Create(const std::string& folder, const std::string& trainer);

  std::string program() const { return folder_ + "/trainer.sh"; }
  // The next one that started to train; a probe is none.
  absl::StatusOr<StartedTrainer> Next();
  // True where one started that Next has not returned.
  bool More() const;
  // A line for each trainer that started while another one lived.
  std::string overlaps() const;

 private:
  StartedTrainers(std::string folder, UniqueFd starts) : folder_(std::move(folder)), starts_(std::move(starts)) {}

  std::string folder_;
  // A FIFO with a line for each start.
  UniqueFd starts_;
  std::string unread_;
};

// Waits until the folder has a new entry `prefix`N with N of at least `least`; those already there do not count.
class NewEntries {
 public:
  static absl::StatusOr<NewEntries> In(const std::string& folder);
  absl::Status Await(const std::string& prefix, int least);

 private:
  explicit NewEntries(UniqueFd notices) : notices_(std::move(notices)) {}
  UniqueFd notices_;
};

}  // namespace studio
