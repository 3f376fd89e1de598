#include "common/status/grpc_status.h"
#include "controller/api/streams.h"

namespace studio::controller {

WatchStream* WatchStream::Start(const StreamContext& context, grpc::CallbackServerContext& call,
                                const v1::WatchJobRequest& request, const absl::Status& allowed) {
  std::shared_ptr<WatchStream> stream(new WatchStream(context, call));
  stream->self_ = stream;
  stream->open_ = context.open.Add([weak = std::weak_ptr<WatchStream>(stream)](const absl::Status& status) {
    if (const auto self = weak.lock()) self->End(status);
  });
  if (const absl::Status may = allowed.ok() ? context.open.Full() : allowed; !may.ok()) {
    stream->End(may);
    return stream.get();
  }
  context.executor.Post([stream, request] {
    const absl::StatusOr<int64_t> watch = stream->context_.loop.Watch(
        request.id(), request.after_revision(),
        [weak = std::weak_ptr<WatchStream>(stream)](const v1::JobRecord& record, const auto& points) {
          if (const auto self = weak.lock()) self->Offer(record, points);
        });
    if (watch.ok()) {
      stream->watch_ = *watch;
      return;
    }
    stream->context_.loop.Find(request.id(), [stream](const absl::StatusOr<v1::JobRecord>& archived) {
      if (!archived.ok()) return stream->End(archived.status());
      stream->Offer(*archived, {});
    });
  });
  return stream.get();
}

void WatchStream::Offer(const v1::JobRecord& record, const std::vector<v1::Progress>& points) {
  std::lock_guard lock(mutex_);
  record_ = record;
  points_.insert(points_.end(), points.begin(), points.end());
  if (points_.size() > kMaxPoints) points_.erase(points_.begin(), points_.end() - kMaxPoints);
  terminal_ = IsTerminal(record.state());
  // Not Finish: that would wait behind the message.
  if (writing_ && !finished_ && stall_.LongerThan(context_.slow_after)) return call_.TryCancel();
  Pump();
}

void WatchStream::Pump() {
  if (writing_ || finished_) return;
  if (!record_) {
    if (!terminal_) return;
    finished_ = true;
    Finish(grpc::Status::OK);
    return;
  }
  sending_.Clear();
  *sending_.mutable_record() = *std::move(record_);
  record_.reset();
  for (v1::Progress& point : points_) *sending_.add_points() = std::move(point);
  points_.clear();
  writing_ = true;
  stall_.Begin();
  StartWrite(&sending_);
}

void WatchStream::End(const absl::Status& status) {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  finished_ = true;
  Finish(ToGrpc(status));
}

void WatchStream::OnWriteDone(bool ok) {
  if (!ok) return End(absl::CancelledError("the client went away"));
  std::lock_guard lock(mutex_);
  writing_ = false;
  Pump();
}

void WatchStream::OnCancel() { End(absl::CancelledError("cancelled")); }

void WatchStream::OnDone() {
  context_.open.Remove(open_);
  context_.executor.Post([self = self_] { self->context_.loop.Unwatch(self->watch_); });
  self_.reset();
}

}  // namespace studio::controller
