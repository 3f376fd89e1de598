#include "tests/sim/controller_host.h"

#include <algorithm>
#include <utility>

namespace studio::sim {
namespace {

constexpr absl::Duration kKeepUploads = absl::Seconds(60);

}  // namespace

absl::StatusOr<std::vector<v1::Progress>> SimLogs::AppendPoints(const std::string& job_id, int attempt,
                                                                const std::vector<v1::Progress>& points) {
  if (!points.empty()) last_[{job_id, attempt}] = points.back();
  return points;
}

std::optional<v1::Progress> SimLogs::LastPoint(const std::string& job_id, int attempt) const {
  const auto found = last_.find({job_id, attempt});
  return found == last_.end() ? std::nullopt : std::optional(found->second);
}

ControllerHost::ControllerHost(Engine& engine, History& history, uint64_t seed)
    : engine_(engine), history_(history), random_(seed, "controller"), disk_(seed) {
  process_.on_crash = [this] { Kill(); };
}

void ControllerHost::Start() {
  process_.Begin();
  history_.Note("the controller starts");
  history_.Listens();
  next_tick_ = absl::InfiniteFuture();
  store_ = std::make_unique<SimStore>(engine_, history_, process_, disk_);
  controller::LoopOptions options;
  options.now = [this] { return engine_.now(); };
  options.post = options.post_logs = [this](std::function<void()> task) { Run(std::move(task)); };
  options.has_blob = [this](const v1::FileRef& file) { return content_.count(file.sha256()) > 0; };
  options.remove_blob = [this](const std::string& sha256, absl::Duration untouched) -> int64_t {
    if (content_.count(sha256) == 0 || engine_.now() - put_[sha256] < untouched) return 0;
    history_.Removed(sha256);
    content_.erase(sha256);
    return 1;
  };
  // Short, so that a run is long enough for all of it.
  options.superseded_grace = absl::Seconds(5);
  options.keep_jobs = 6;
  options.on_failure = [this](const absl::Status&) {
    // As the server does: the process ends as soon as it has returned.
    engine_.At(engine_.now(), &process_, [] { throw Crash(); });
  };
  loop_ = std::make_unique<controller::ControllerLoop>(*store_, logs_, options);
  if (const absl::Status started = loop_->Start(); !started.ok()) {
    history_.Violation("Starts", std::string(started.message()));
  }
  Run([] {});
  KeepHouse();
}

void ControllerHost::Put(const std::string& sha256, const std::string& bytes) {
  content_[sha256] = bytes;
  put_[sha256] = engine_.now();
}

void ControllerHost::KeepHouse() {
  engine_.After(absl::Seconds(15), &process_, [this] {
    std::vector<std::string> old;
    for (const auto& [sha256, bytes] : content_) {
      if (engine_.now() - put_[sha256] >= kKeepUploads) old.push_back(sha256);
    }
    Run([this, old] { loop_->CollectUploads(old, kKeepUploads); });
    KeepHouse();
  });
}

void ControllerHost::Kill(absl::Duration away) {
  if (!process_.alive) return;
  history_.Note("the controller is dead");
  process_.Kill();
  store_->Die();
  // Not from within its own call.
  engine_.At(engine_.now(), nullptr, [this] { loop_.reset(); });
  if (away == absl::ZeroDuration()) away = random_.Ms(200, 8000);
  engine_.After(away, nullptr, [this] { Start(); });
}

void ControllerHost::Pause(absl::Duration length) {
  process_.paused_until = std::max(process_.paused_until, engine_.now() + length);
  // As long as it takes to lose a worker: an absence. What is shorter, lost_after makes up for.
  if (process_.paused_until - engine_.now() < controller::SessionOptions().lost_after) return;
  engine_.At(process_.paused_until, &process_, [this] { history_.Listens(); });
}

void ControllerHost::Run(Engine::Task task) {
  engine_.At(engine_.now(), &process_, [this, task = std::move(task)] {
    task();
    AfterTask();
  });
}

void ControllerHost::AfterTask() {
  const absl::Duration until = loop_->Tick();
  if (until == absl::InfiniteDuration()) return;
  const absl::Time at = engine_.now() + std::max(until, absl::ZeroDuration());
  if (at >= next_tick_ && next_tick_ > engine_.now()) return;
  next_tick_ = at;
  engine_.At(at, &process_, [this] {
    next_tick_ = absl::InfiniteFuture();
    AfterTask();
  });
}

}  // namespace studio::sim
