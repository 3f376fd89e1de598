// The part of AttemptRun that passes on what its ranks say.
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "worker/agent/attempt_run.h"

namespace studio::worker {
namespace {

// Of one attempt; a trainer has a handful.
constexpr int kMaxNotes = 100;
constexpr absl::Duration kLastWordGrace = absl::Seconds(30);

}  // namespace

void AttemptRun::OnOutput(Rank& rank, std::string_view bytes) {
  v1::LogChunk chunk;
  *chunk.mutable_key() = key();
  chunk.set_rank(rank.assignment.rank());
  chunk.set_offset(rank.log->Append(bytes));
  chunk.set_data(std::string(bytes));
  listener_.OnLog(std::move(chunk));
}

void AttemptRun::OnRankEvent(Rank& rank, const v1::TrainerUp& up) {
  if (wordless_) return;
  switch (up.event_case()) {
    case v1::TrainerUp::kState: {
      rank.state = std::max(rank.state, up.state());
      v1::AttemptState slowest = v1::ATTEMPT_RUNNING;
      for (const std::unique_ptr<Rank>& other : ranks_) slowest = std::min(slowest, other->state);
      if (slowest > state_ && state_ != v1::ATTEMPT_PREPARING) ReportState(slowest);
      break;
    }
    case v1::TrainerUp::kFinished:
      rank.evidence.finished = up.finished();
      KillUnlessGone(rank);
      break;
    case v1::TrainerUp::kFailure:
      rank.evidence.failure = up.failure();
      KillUnlessGone(rank);
      break;
    default:
      // All ranks have the same weights, see the same rows and find the same losses. What another one has to say lies
      // in its own log.
      if (rank.assignment.rank() == 0) SpeakForAll(up);
  }
}

void AttemptRun::SpeakForAll(const v1::TrainerUp& up) {
  switch (up.event_case()) {
    case v1::TrainerUp::kProgress: {
      v1::ProgressReport report;
      *report.mutable_key() = key();
      *report.add_points() = up.progress();
      listener_.OnProgress(std::move(report));
      break;
    }
    case v1::TrainerUp::kEvaluation: {
      v1::AttemptEvent event = NewEvent();
      *event.add_evaluations() = up.evaluation();
      listener_.OnAttemptEvent(std::move(event));
      break;
    }
    case v1::TrainerUp::kSample: {
      v1::AttemptEvent event = NewEvent();
      *event.add_samples() = up.sample();
      listener_.OnAttemptEvent(std::move(event));
      break;
    }
    case v1::TrainerUp::kData: {
      v1::AttemptEvent event = NewEvent();
      *event.mutable_data() = up.data();
      listener_.OnAttemptEvent(std::move(event));
      break;
    }
    case v1::TrainerUp::kNote: {
      if (++notes_ > kMaxNotes) break;  // it would fill the journal and the job's record
      v1::AttemptEvent event = NewEvent();
      event.add_notes(up.note());
      listener_.OnAttemptEvent(std::move(event));
      break;
    }
    case v1::TrainerUp::kCheckpoint:
      PublishCheckpoint(up.checkpoint());
      break;
    default:  // of a later version
      break;
  }
}

// Its last word was said; a process that then hangs in tearing down must not hold the job.
void AttemptRun::KillUnlessGone(Rank& rank) {
  machine_.loop.At(machine_.loop.now() + kLastWordGrace, [weak = weak_from_this(), &rank, pid = rank.process->pid()] {
    const std::shared_ptr<AttemptRun> self = weak.lock();
    if (self == nullptr || rank.process == nullptr || rank.process->pid() != pid || rank.process->ended()) return;
    spdlog::warn("process {} is still there {} after its last word", pid, absl::FormatDuration(kLastWordGrace));
    rank.process->Kill(SIGKILL);
  });
}

}  // namespace studio::worker
