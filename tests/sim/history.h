// What happened in a run, as the invariants see it, and the hash by which two runs are the same.
//
// Told by the simulated parts; judged here at once, by one function an invariant (invariants.cc). The names are those
// of docs/failure_model.md. Time is the engine's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "proto/studio/v1/state.pb.h"
#include "proto/studio/v1/worker.pb.h"
#include "tests/sim/engine.h"

namespace studio::sim {

class History {
 public:
  // `keep_lines`: for the story of a failing seed.
  History(const Engine& engine, bool keep_lines) : engine_(engine), keep_lines_(keep_lines) {}

  // A line of the story; part of the hash.
  void Note(const std::string& line);
  void Violation(const std::string& invariant, const std::string& what);

  // The store made this record durable.
  void Durable(const v1::JobRecord& record);
  // The store has it in its archive: its files may go.
  void Archived(const std::string& job_id) { archived_.insert(job_id); }
  // The controller takes a blob from its content store.
  void Removed(const std::string& sha256);
  // The client was told that its request is this job.
  void SubmitAnswered(const std::string& request_id, const v1::JobRecord& answer);
  void CancelAnswered(const v1::JobRecord& answer);
  // The controller hands a message to a worker's stream.
  void Told(const std::string& worker, const v1::WorkerDown& down);
  // An agent sends this; its journal holds those bytes whatever the machine does.
  void Said(const std::string& worker, const v1::WorkerUp& up, std::string_view durable_journal);
  // A message of this worker reached a controller that lives.
  void Heard(const std::string& worker) { heard_[worker].push_back(engine_.now()); }
  // The controller (started or woke and) listens from now on.
  void Listens() { listens_.push_back(engine_.now()); }
  void RankBegan(const std::string& worker, const v1::TrainerTask& task);
  void RankEnded(const std::string& worker, const v1::TrainerTask& task);
  // Whether a blob of the content store holds what this job's checkpoint of this step must hold.
  std::function<bool(const v1::CheckpointManifest&)> verifies;

  // Whether a result holds what this job's must hold.
  std::function<bool(const v1::JobRecord&)> result_verifies;
  // Whether the job's script or its small budget may have it FAILED.
  std::function<bool(const v1::JobRecord&)> may_fail;

  // When all must be settled.
  void CheckSettled();

  const std::map<std::string, v1::JobRecord>& jobs() const { return jobs_; }
  const std::vector<std::pair<std::string, std::string>>& violations() const { return violations_; }
  const std::vector<std::string>& lines() const { return lines_; }
  uint64_t hash() const { return hash_; }
  int64_t live_ranks() const;

 private:
  struct Rank {
    std::string worker;
    v1::TrainerTask task;
  };

  // invariants.cc
  void CheckTransition(const v1::JobRecord& before, const v1::JobRecord& after);
  void CheckEnd(const v1::JobRecord& record, const v1::Attempt& attempt);
  void CheckNewAttempt(const v1::JobRecord& before, const v1::JobRecord& after);
  void CheckDevices(const v1::JobRecord& record);
  void CheckNotLost(const std::string& worker, const v1::CheckpointWritten& written);
  bool HasRanks(int64_t epoch) const;

  const Engine& engine_;
  const bool keep_lines_;
  uint64_t hash_ = 0xcbf29ce484222325u;
  std::vector<std::string> lines_;
  std::vector<std::pair<std::string, std::string>> violations_;

  std::map<std::string, v1::JobRecord> jobs_;
  std::set<std::string> archived_;
  std::map<std::string, std::string> by_request_;
  std::map<std::string, std::string> answered_;
  std::set<std::string> cancels_;
  std::map<int64_t, std::string> epochs_;
  std::map<std::string, std::vector<absl::Time>> heard_;
  std::vector<absl::Time> listens_;
  std::map<std::pair<int64_t, int>, Rank> ranks_;  // by epoch and rank
};

}  // namespace studio::sim
