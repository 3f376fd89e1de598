#include "controller/api/worker_service.h"

#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "common/status/grpc_status.h"
#include "controller/api/authorize.h"

namespace studio::controller {
namespace {

class WorkerStream : public grpc::ServerBidiReactor<v1::WorkerUp, v1::WorkerDown>,
                     public StreamSink,
                     public std::enable_shared_from_this<WorkerStream> {
 public:
  static WorkerStream* Start(Executor& executor, ControllerLoop& loop, grpc::CallbackServerContext& call,
                             const absl::Status& allowed) {
    std::shared_ptr<WorkerStream> stream(new WorkerStream(executor, loop, call));
    stream->self_ = stream;
    if (!allowed.ok()) {
      stream->Close(allowed);
      return stream.get();
    }
    executor.Post([stream] {
      stream->number_ = stream->loop_.OpenStream(stream);
      stream->Read();
    });
    return stream.get();
  }

  // The loop's end, on the executor.
  void Send(v1::WorkerDown message) override {
    // An acknowledgement, perhaps of what it waits for.
    if (held_ && loop_.Unsettled(number_) <= kMaxUnsettled / 2) {
      held_ = false;
      Read();
    }
    std::lock_guard lock(mutex_);
    if (finished_ || closing_) return;
    // It does not read. What it must know follows from its next greeting.
    if (outgoing_.size() >= kMaxOutgoing) return call_.TryCancel();
    outgoing_.push_back(std::move(message));
    Write();
  }
  void Close(absl::Status status) override {
    std::lock_guard lock(mutex_);
    if (finished_ || closing_) return;
    closing_ = std::move(status);  // after what is still to be written
    Write();
  }

  // gRPC's end.
  void OnReadDone(bool ok) override {
    if (!ok) return Close(absl::OkStatus());
    executor_.Post([self = shared_from_this()] {
      self->loop_.OnStreamMessage(self->number_, self->incoming_);
      self->held_ = self->loop_.Unsettled(self->number_) >= kMaxUnsettled;
      if (!self->held_) self->Read();
    });
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) outgoing_.clear();
    if (!ok && !closing_) closing_ = absl::CancelledError("the worker went away");
    Write();
  }
  void OnCancel() override { Close(absl::CancelledError("the worker went away")); }
  void OnDone() override {
    executor_.Post([self = self_] { self->loop_.OnStreamClosed(self->number_); });
    self_.reset();
  }

 private:
  // Acknowledgements mostly, a few dozen bytes each.
  static constexpr size_t kMaxOutgoing = 10'000;
  static constexpr size_t kMaxUnsettled = 1'000;

  WorkerStream(Executor& executor, ControllerLoop& loop, grpc::CallbackServerContext& call)
      : executor_(executor), loop_(loop), call_(call) {}

  void Read() {
    std::lock_guard lock(mutex_);
    if (!finished_) StartRead(&incoming_);
  }
  void Write() {  // with mutex_ held
    if (writing_ || finished_) return;
    if (!outgoing_.empty()) {
      writing_ = true;
      sending_ = std::move(outgoing_.front());
      outgoing_.pop_front();
      StartWrite(&sending_);
    } else if (closing_) {
      finished_ = true;
      Finish(ToGrpc(*closing_));
    }
  }

  Executor& executor_;
  ControllerLoop& loop_;
  grpc::CallbackServerContext& call_;   // until OnDone
  std::shared_ptr<WorkerStream> self_;  // until OnDone
  int64_t number_ = 0;                  // the executor's
  bool held_ = false;                   // the executor's: nothing is read
  v1::WorkerUp incoming_;               // gRPC's while it reads, else the executor's
  std::mutex mutex_;
  std::deque<v1::WorkerDown> outgoing_;
  v1::WorkerDown sending_;
  std::optional<absl::Status> closing_;
  bool writing_ = false;
  bool finished_ = false;
};

}  // namespace

grpc::ServerBidiReactor<v1::WorkerUp, v1::WorkerDown>* WorkerService::Session(grpc::CallbackServerContext* context) {
  return WorkerStream::Start(executor_, loop_, *context, Authorize(Identify(*context), "worker.session", ""));
}

}  // namespace studio::controller
