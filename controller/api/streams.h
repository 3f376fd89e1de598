// The streams of the Controller service: one small class each. gRPC calls them from its own threads; what they know is
// guarded by their mutex or belongs to an executor, as each says. They delete themselves when gRPC is done with them.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "controller/logs/attempt_logs.h"
#include "controller/loop/controller_loop.h"
#include "controller/loop/executor.h"
#include "proto/studio/v1/controller.pb.h"

namespace studio::controller {

// The streams that are open, so that a controller that stops can end them at once, and those that come too late as
// well. Thread-safe.
class OpenStreams {
 public:
  using End = std::function<void(const absl::Status&)>;

  // Unavailable where there are as many as may be.
  absl::Status Full() const {
    std::lock_guard lock(mutex_);
    if (ends_.size() < kMaxStreams) return absl::OkStatus();
    return absl::UnavailableError(
        absl::StrCat(kMaxStreams, " watchers and readers of logs are there; try again later"));
  }
  int64_t Add(End end) {
    std::unique_lock lock(mutex_);
    const int64_t stream = next_++;
    if (!ended_.ok()) {
      lock.unlock();
      end(ended_);
      return stream;
    }
    ends_[stream] = std::move(end);
    return stream;
  }
  void Remove(int64_t stream) {
    std::lock_guard lock(mutex_);
    ends_.erase(stream);
  }
  void EndAll(const absl::Status& status) {
    std::map<int64_t, End> ends;
    {
      std::lock_guard lock(mutex_);
      ended_ = status;
      ends.swap(ends_);
    }
    for (const auto& [stream, end] : ends) end(status);
  }

 private:
  static constexpr size_t kMaxStreams = 2000;

  mutable std::mutex mutex_;
  int64_t next_ = 1;
  std::map<int64_t, End> ends_;
  absl::Status ended_;  // not OK once all were ended
};

// What a stream works with; outlives it.
struct StreamContext {
  Executor& executor;
  Executor& log_executor;
  ControllerLoop& loop;
  const AttemptLogs& logs;
  OpenStreams& open;
  // A client that has not taken a message for so long, when there is another for it, is dropped: it dials again and
  // says what it has seen (after_revision; attempt and offset), and nothing of it is held here meanwhile.
  absl::Duration slow_after;
};

// Since when a stream waits for its client to take a message. Its owner guards it.
class Stall {
 public:
  void Begin() { since_ = absl::Now(); }
  bool LongerThan(absl::Duration time) const { return absl::Now() - since_ >= time; }

 private:
  absl::Time since_;
};

// Sends the newest record whenever the last one has left; points wait in between. A slow client gets fewer records,
// never older ones, and the newest of its points.
class WatchStream : public grpc::ServerWriteReactor<v1::WatchJobResponse>,
                    public std::enable_shared_from_this<WatchStream> {
 public:
  static WatchStream* Start(const StreamContext& context, grpc::CallbackServerContext& call,
                            const v1::WatchJobRequest& request, const absl::Status& allowed);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  static constexpr size_t kMaxPoints = 10'000;

  WatchStream(const StreamContext& context, grpc::CallbackServerContext& call) : context_(context), call_(call) {}
  void Offer(const v1::JobRecord& record, const std::vector<v1::Progress>& points);
  void End(const absl::Status& status);
  void Pump();  // with mutex_ held

  const StreamContext context_;
  grpc::CallbackServerContext& call_;  // until OnDone
  Stall stall_;
  std::shared_ptr<WatchStream> self_;  // until OnDone
  int64_t open_ = 0;
  int64_t watch_ = 0;  // the executor's
  std::mutex mutex_;
  std::optional<v1::JobRecord> record_;
  std::vector<v1::Progress> points_;
  v1::WatchJobResponse sending_;
  bool writing_ = false;
  bool terminal_ = false;
  bool finished_ = false;
};

// Reads a rank's log from the files, and goes on as they grow. Everything but the write's end happens on the executor
// of the logs.
class LogStream : public grpc::ServerWriteReactor<v1::LogLines>, public std::enable_shared_from_this<LogStream> {
 public:
  static LogStream* Start(const StreamContext& context, grpc::CallbackServerContext& call,
                          const v1::ReadLogsRequest& request, const absl::Status& allowed);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  static constexpr size_t kChunkBytes = 64 << 10;

  LogStream(const StreamContext& context, grpc::CallbackServerContext& call, const v1::ReadLogsRequest& request)
      : context_(context), call_(call), request_(request) {}
  void End(const absl::Status& status);
  void Pump();

  const StreamContext context_;
  grpc::CallbackServerContext& call_;  // until OnDone
  const v1::ReadLogsRequest request_;
  std::shared_ptr<LogStream> self_;  // until OnDone
  int64_t open_ = 0;
  int64_t watch_ = 0;  // the loop's executor's
  // The log executor's:
  std::optional<LogState> state_;
  int attempt_ = 0;
  int64_t offset_ = 0;
  Stall stall_;
  v1::LogLines sending_;
  bool writing_ = false;
  bool finished_ = false;
};

}  // namespace studio::controller
