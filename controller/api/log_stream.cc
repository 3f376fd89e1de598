#include "common/status/grpc_status.h"
#include "controller/api/streams.h"

namespace studio::controller {

LogStream* LogStream::Start(const StreamContext& context, grpc::CallbackServerContext& call,
                            const v1::ReadLogsRequest& request, const absl::Status& allowed) {
  std::shared_ptr<LogStream> stream(new LogStream(context, call, request));
  stream->self_ = stream;
  stream->open_ = context.open.Add([weak = std::weak_ptr<LogStream>(stream)](const absl::Status& status) {
    const auto self = weak.lock();
    if (self != nullptr) self->context_.log_executor.Post([self, status] { self->End(status); });
  });
  // A client that follows a silent job learns that it is heard.
  stream->StartSendInitialMetadata();
  context.log_executor.Post([stream, may = allowed.ok() ? context.open.Full() : allowed] {
    if (!may.ok()) return stream->End(may);
    stream->context_.executor.Post([stream] {
      const absl::StatusOr<int64_t> watch = stream->context_.loop.WatchLogs(
          stream->request_.id(), [weak = std::weak_ptr<LogStream>(stream)](LogState state) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            self->state_ = state;
            // Not Finish: that would wait behind the message.
            if (self->writing_ && !self->finished_ && self->stall_.LongerThan(self->context_.slow_after)) {
              return self->call_.TryCancel();
            }
            self->Pump();
          });
      if (watch.ok()) {
        stream->watch_ = *watch;
        return;
      }
      stream->context_.loop.Find(stream->request_.id(), [stream](const absl::StatusOr<v1::JobRecord>& archived) {
        stream->context_.log_executor.Post([stream, archived] {
          if (!archived.ok()) return stream->End(archived.status());
          stream->state_ = LogState{archived->attempts_size(), IsTerminal(archived->state())};
          stream->Pump();
        });
      });
    });
  });
  return stream.get();
}

void LogStream::Pump() {
  if (writing_ || finished_ || !state_) return;
  if (attempt_ == 0) {
    attempt_ = request_.attempt() > 0 ? request_.attempt() : state_->attempts;
    offset_ = request_.offset();
  }
  for (;;) {
    absl::StatusOr<std::string> data = std::string();
    if (attempt_ > 0) data = context_.logs.ReadLog(request_.id(), attempt_, request_.rank(), offset_, kChunkBytes);
    if (!data.ok()) return End(data.status());
    if (!data->empty()) {
      sending_.set_attempt(attempt_);
      sending_.set_offset(offset_);
      offset_ += data->size();
      sending_.set_data(*std::move(data));
      writing_ = true;
      stall_.Begin();
      return StartWrite(&sending_);
    }
    // Who follows the job, not one attempt, follows it into the next.
    const bool next = request_.follow() && request_.attempt() == 0 && attempt_ < state_->attempts;
    if (!next) break;
    ++attempt_;
    offset_ = 0;
  }
  const bool attempt_over = request_.attempt() > 0 && request_.attempt() < state_->attempts;
  if (!request_.follow() || state_->terminal || attempt_over) End(absl::OkStatus());
}

void LogStream::End(const absl::Status& status) {
  if (finished_) return;
  finished_ = true;
  Finish(ToGrpc(status));
}

void LogStream::OnWriteDone(bool ok) {
  context_.log_executor.Post([self = self_, ok] {
    if (!ok) return self->End(absl::CancelledError("the client went away"));
    self->writing_ = false;
    self->Pump();
  });
}

void LogStream::OnCancel() {
  context_.log_executor.Post([self = self_] { self->End(absl::CancelledError("cancelled")); });
}

void LogStream::OnDone() {
  context_.open.Remove(open_);
  context_.executor.Post([self = self_] { self->context_.loop.UnwatchLogs(self->watch_); });
  self_.reset();
}

}  // namespace studio::controller
