#include "tests/sim/history.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/job/job_machine.h"

namespace studio::sim {

void History::Note(const std::string& line) {
  const auto mix = [&](uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001b3u; };
  mix(static_cast<uint64_t>(absl::ToUnixNanos(engine_.now())));
  for (const char c : line) mix(static_cast<uint8_t>(c));
  if (!keep_lines_) return;
  lines_.push_back(absl::StrFormat("%9.3f s  %s",
                                   absl::ToDoubleSeconds(engine_.now() - absl::FromUnixSeconds(1'000'000'000)), line));
}

void History::Violation(const std::string& invariant, const std::string& what) {
  Note(absl::StrCat("VIOLATED ", invariant, ": ", what));
  violations_.emplace_back(invariant, what);
}

void History::Durable(const v1::JobRecord& record) {
  const auto found = jobs_.find(record.id());
  const v1::Attempt* last = record.attempts_size() > 0 ? &*record.attempts().rbegin() : nullptr;
  Note(absl::StrCat(
      record.id(), " (", record.request_id(), ") is ", v1::JobState_Name(record.state()),
      last == nullptr
          ? ""
          : absl::StrCat(", attempt ", last->number(), " on ", last->ranks(0).worker_id(), " (epoch ", last->epoch(),
                         ") ", v1::AttemptState_Name(last->state()), " ", v1::Reason_Name(last->reason())),
      record.has_checkpoint() ? absl::StrCat(", checkpoint of step ", record.checkpoint().step()) : ""));
  if (found == jobs_.end()) {
    CheckTransition(v1::JobRecord(), record);
    jobs_[record.id()] = record;
    return;
  }
  const v1::JobRecord before = std::exchange(found->second, record);
  CheckTransition(before, record);
}

void History::RankBegan(const std::string& worker, const v1::TrainerTask& task) {
  Note(absl::StrCat("rank ", task.rank().rank(), " of ", task.job_id(), " attempt ", task.attempt(), " begins on ",
                    worker));
  for (const auto& [key, rank] : ranks_) {
    if (rank.worker == worker && rank.task.job_id() == task.job_id() && rank.task.epoch() != task.epoch()) {
      Violation("OneLiveAttempt", absl::StrCat(task.job_id(), " runs twice on ", worker));
    }
  }
  ranks_[{task.epoch(), task.rank().rank()}] = {worker, task};
}

void History::RankEnded(const std::string& worker, const v1::TrainerTask& task) {
  Note(absl::StrCat("rank ", task.rank().rank(), " of ", task.job_id(), " attempt ", task.attempt(), " ends on ",
                    worker));
  ranks_.erase({task.epoch(), task.rank().rank()});
}

bool History::HasRanks(int64_t epoch) const {
  const auto found = ranks_.lower_bound({epoch, -1});
  return found != ranks_.end() && found->first.first == epoch;
}

int64_t History::live_ranks() const { return static_cast<int64_t>(ranks_.size()); }

}  // namespace studio::sim
