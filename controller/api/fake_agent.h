// A worker's end in a few lines, for tests that need a worker on a real stream.
//
//   FakeAgent agent(address);
//   agent.Greet({});                       // returns once welcomed
//   v1::Assign assign = agent.AwaitAssign();
//   agent.Report(assign.key(), v1::ATTEMPT_RUNNING);
//
// Blocking, one thread. Every wait ends after 30 s with a failed test.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "proto/studio/v1/worker.grpc.pb.h"

namespace studio::controller {

class FakeAgent {
 public:
  explicit FakeAgent(const std::string& address, std::string id = "w1")
      : id_(std::move(id)),
        stub_(v1::WorkerService::NewStub(
            grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), SmallWindow()))) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    context_.set_wait_for_ready(true);
    stream_ = stub_->Session(&context_);
  }
  ~FakeAgent() {
    context_.TryCancel();
    stream_->Finish();
  }

  void Greet(const std::vector<v1::RunningAttempt>& attempts, int64_t incarnation = 1) {
    v1::WorkerUp up;
    v1::Hello& hello = *up.mutable_hello();
    hello.set_min_protocol(1);
    hello.set_max_protocol(1);
    hello.set_worker_id(id_);
    hello.set_incarnation(incarnation);
    hello.set_boot_id("boot-1");
    hello.add_shared_roots("/shared");
    hello.mutable_inventory()->set_backend(v1::CPU);
    hello.mutable_inventory()->add_devices()->set_id("cpu:0");
    hello.mutable_inventory()->mutable_devices(0)->set_backend(v1::CPU);
    for (const v1::RunningAttempt& attempt : attempts) *hello.add_attempts() = attempt;
    Send(up);
    Await([](const v1::WorkerDown& down) { return down.has_welcome(); });
  }
  void Send(const v1::WorkerUp& up) { ASSERT_TRUE(stream_->Write(up)) << "the controller hung up"; }
  // False once the controller has hung up.
  bool TrySend(const v1::WorkerUp& up) { return stream_->Write(up); }
  // Messages are dropped until one fits.
  template <typename Fits>
  v1::WorkerDown Await(Fits fits) {
    v1::WorkerDown down;
    while (stream_->Read(&down)) {
      if (fits(down)) return down;
    }
    ADD_FAILURE() << "the stream ended before the message that was waited for";
    return {};
  }
  // Reads, as a real agent always does, until the controller ends the stream.
  void AwaitEnd() {
    v1::WorkerDown down;
    while (stream_->Read(&down)) {
    }
  }
  v1::Assign AwaitAssign() {
    return Await([](const v1::WorkerDown& down) { return down.has_assign(); }).assign();
  }
  v1::StopAttempt AwaitStop() {
    return Await([](const v1::WorkerDown& down) { return down.has_stop(); }).stop();
  }
  // Returns once it is durable.
  void Report(const v1::AttemptKey& key, v1::AttemptState state, const v1::Artifact& result = {}) {
    v1::WorkerUp up;
    up.set_sequence(++sequence_);
    *up.mutable_attempt()->mutable_key() = key;
    up.mutable_attempt()->set_state(state);
    *up.mutable_attempt()->mutable_result() = result;
    Send(up);
    Await([this](const v1::WorkerDown& down) { return down.acknowledged() >= sequence_; });
  }
  void Checkpoint(const v1::AttemptKey& key, int64_t step) {
    v1::WorkerUp up;
    up.set_sequence(++sequence_);
    *up.mutable_checkpoint()->mutable_key() = key;
    up.mutable_checkpoint()->mutable_manifest()->set_step(step);
    Send(up);
    Await([&](const v1::WorkerDown& down) { return down.has_recorded() && down.recorded().step() == step; });
    Await([this](const v1::WorkerDown& down) { return down.acknowledged() >= sequence_; });
  }
  void Log(const v1::AttemptKey& key, int64_t offset, const std::string& data) {
    v1::WorkerUp up;
    *up.mutable_log()->mutable_key() = key;
    up.mutable_log()->set_offset(offset);
    up.mutable_log()->set_data(data);
    Send(up);
  }
  void Point(const v1::AttemptKey& key, int64_t step) {
    v1::WorkerUp up;
    *up.mutable_progress()->mutable_key() = key;
    up.mutable_progress()->add_points()->set_step(step);
    Send(up);
  }

 private:
  // What it does not read waits at the controller, but for 64 KiB.
  static grpc::ChannelArguments SmallWindow() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    return arguments;
  }

  const std::string id_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerUp, v1::WorkerDown>> stream_;
  int64_t sequence_ = 0;
};

}  // namespace studio::controller
