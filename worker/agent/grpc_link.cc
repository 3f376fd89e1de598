#include "worker/agent/grpc_link.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "common/status/check.h"
#include "common/status/grpc_status.h"

namespace studio::worker {
namespace {

// A session message holds at most a job and the hashes of its files.
constexpr int kMaxMessageBytes = 64 << 20;

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  // The session decides when to dial; the channel must not be slower than it.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // How long one attempt may last, whatever its name says: a far controller needs more than a round trip or two.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

struct GrpcLink::Shared {
  Loop& loop;
  const Callbacks callbacks;

  std::mutex mutex;
  std::condition_variable changed;
  int live_streams = 0;
  // Loop's thread only: callbacks of any other stream are dropped.
  int64_t current = 0;
  int64_t last_number = 0;
};

// Lives until gRPC is done with it (it holds itself until OnDone).
class GrpcLink::Stream : public grpc::ClientBidiReactor<v1::WorkerUp, v1::WorkerDown> {
 public:
  Stream(std::shared_ptr<Shared> shared, int64_t number) : shared_(std::move(shared)), number_(number) {}

  void Start(v1::WorkerService::Stub& stub, std::shared_ptr<Stream> self) {
    self_ = std::move(self);
    {
      const std::lock_guard<std::mutex> lock(shared_->mutex);
      ++shared_->live_streams;
    }
    stub.async()->Session(&context_, this);
    // Messages are sent from outside gRPC's callbacks: until the reading ends gRPC must not let go of the call.
    AddHold();
    StartRead(&incoming_);
    StartCall();
  }

  void Send(v1::WorkerUp message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return;
    outgoing_.push_back(std::move(message));
    if (outgoing_.size() == 1) StartWrite(&outgoing_.front());
  }

  void Cancel() { context_.TryCancel(); }

  void OnWriteDone(bool ok) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!ok || closed_) return;  // OnDone follows
    outgoing_.pop_front();
    if (!outgoing_.empty()) StartWrite(&outgoing_.front());
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      const std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
      RemoveHold();  // OnDone follows
      return;
    }
    shared_->loop.Post([shared = shared_, number = number_, message = incoming_] {
      if (shared->current == number) shared->callbacks.on_message(message);
    });
    StartRead(&incoming_);
  }

  void OnDone(const grpc::Status& status) override {
    shared_->loop.Post([shared = shared_, number = number_, status = FromGrpc(status)] {
      if (shared->current != number) return;
      shared->current = 0;
      shared->callbacks.on_closed(status);
    });
    const std::shared_ptr<Shared> shared = shared_;
    self_.reset();  // may destroy this
    const std::lock_guard<std::mutex> lock(shared->mutex);
    --shared->live_streams;
    shared->changed.notify_all();
  }

 private:
  const std::shared_ptr<Shared> shared_;
  const int64_t number_;
  std::shared_ptr<Stream> self_;
  grpc::ClientContext context_;
  v1::WorkerDown incoming_;
  std::mutex mutex_;
  std::deque<v1::WorkerUp> outgoing_;
  bool closed_ = false;
};

GrpcLink::GrpcLink(Loop& loop, const std::string& address, Callbacks callbacks)
    : shared_(new Shared{loop, std::move(callbacks), {}, {}, 0, 0, 0}),
      stub_(v1::WorkerService::NewStub(MakeChannel(address))) {}

GrpcLink::~GrpcLink() {
  HangUp();
  std::unique_lock<std::mutex> lock(shared_->mutex);
  shared_->changed.wait(lock, [&] { return shared_->live_streams == 0; });
}

void GrpcLink::Dial() {
  HangUp();
  shared_->current = ++shared_->last_number;
  stream_ = std::make_shared<Stream>(shared_, shared_->current);
  stream_->Start(*stub_, stream_);
}

void GrpcLink::Send(v1::WorkerUp message) {
  if (stream_ != nullptr) stream_->Send(std::move(message));
}

void GrpcLink::HangUp() {
  shared_->current = 0;
  if (stream_ == nullptr) return;
  stream_->Cancel();
  stream_.reset();
}

}  // namespace studio::worker
