#include "worker/agent/fake_controller.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status/check.h"
#include "common/time/patience.h"

namespace studio::worker {
namespace {

std::chrono::nanoseconds HowLong() { return absl::ToChronoNanoseconds(Patience(absl::Seconds(30))); }

std::unique_ptr<ContentStore> OpenStore(const std::string& folder) {
  absl::StatusOr<std::unique_ptr<ContentStore>> store = ContentStore::Open(folder, {});
  STUDIO_CHECK(store.ok()) << store.status().ToString();
  return *std::move(store);
}

}  // namespace

class FakeController::Service : public v1::WorkerService::Service {
 public:
  explicit Service(FakeController& controller) : controller_(controller) {}

  grpc::Status Session(grpc::ServerContext* context,
                       grpc::ServerReaderWriter<v1::WorkerDown, v1::WorkerUp>* stream) override {
    controller_.OnStream(*stream);
    return grpc::Status::OK;
  }

 private:
  FakeController& controller_;
};

FakeController::FakeController(const std::string& folder) : store_(OpenStore(folder)) {}

FakeController::~FakeController() { Stop(); }

void FakeController::Start() {
  transfer_ = std::make_unique<TransferService>(*store_, TransferService::Options{});
  service_ = std::make_unique<Service>(*this);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port_), grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(service_.get());
  builder.RegisterService(transfer_.get());
  server_ = builder.BuildAndStart();
  STUDIO_CHECK(server_ != nullptr && port != 0) << "port " << port_;
  port_ = port;
}

void FakeController::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
  service_.reset();
  transfer_.reset();
}

void FakeController::OnStream(grpc::ServerReaderWriter<v1::WorkerDown, v1::WorkerUp>& stream) {
  v1::WorkerUp up;
  while (stream.Read(&up)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    v1::WorkerDown down;
    if (up.has_hello()) {
      down.mutable_welcome()->set_protocol(protocol_);
      down.mutable_welcome()->set_heartbeat_seconds(1);
      down.mutable_welcome()->set_lost_after_seconds(30);
      down.mutable_welcome()->set_transfer_address(absl::StrCat(":", port_));
      stream_ = &stream;
      sequence_ = 0;
    } else if (up.has_heartbeat()) {
      down.mutable_lease();
    }
    if (acknowledging_) down.set_acknowledged(up.sequence());
    received_.push_back(up);
    if (down.ByteSizeLong() > 0) stream.Write(down);
    changed_.notify_all();
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stream_ == &stream) stream_ = nullptr;
}

void FakeController::SetAcknowledging(bool on) {
  const std::lock_guard<std::mutex> lock(mutex_);
  acknowledging_ = on;
}

void FakeController::SetProtocol(int protocol) {
  const std::lock_guard<std::mutex> lock(mutex_);
  protocol_ = protocol;
}

void FakeController::Send(v1::WorkerDown message) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!changed_.wait_for(lock, HowLong(), [&] { return stream_ != nullptr; })) {
    ADD_FAILURE() << "no worker dialled";
    return;
  }
  message.set_sequence(++sequence_);
  stream_->Write(message);
}

v1::WorkerUp FakeController::Await(const std::function<bool(const v1::WorkerUp&)>& wanted, size_t skip) {
  std::unique_lock<std::mutex> lock(mutex_);
  size_t next = skip;
  while (true) {
    for (; next < received_.size(); ++next) {
      if (wanted(received_[next])) return received_[next];
    }
    if (changed_.wait_for(lock, HowLong()) == std::cv_status::timeout && next == received_.size()) break;
  }
  ADD_FAILURE() << "the message that was waited for did not come; the last one was "
                << (received_.empty() ? "none" : received_.back().ShortDebugString());
  return {};
}

v1::AttemptEvent FakeController::AwaitState(v1::AttemptState state, int32_t attempt) {
  return Await([&](const v1::WorkerUp& up) {
           return up.attempt().state() == state && up.attempt().key().attempt() == attempt;
         })
      .attempt();
}

std::vector<v1::WorkerUp> FakeController::received() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return received_;
}

}  // namespace studio::worker
