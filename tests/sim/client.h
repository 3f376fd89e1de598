// Somebody with studioctl: submits, cancels and retries, and asks again with the same request id until it is answered.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "proto/studio/v1/controller.pb.h"
#include "tests/sim/controller_host.h"
#include "tests/sim/engine.h"
#include "tests/sim/history.h"
#include "tests/sim/random.h"
#include "tests/sim/scenario.h"

namespace studio::sim {

// The request for a job; the two blobs that it names must be in the content store.
v1::SubmitJobRequest RequestFor(const JobScript& script);
// What the blobs hold, by hash.
std::map<std::string, std::string> InputBlobs();

class Client {
 public:
  Client(Engine& engine, History& history, ControllerHost& controller, uint64_t seed, JobScript script);
  void Start();
  // Nothing more to ask.
  bool done() const { return pending_ == 0; }

 private:
  void SubmitUntilAnswered();
  void CancelUntilAnswered();
  void RetryUntilAnswered();
  // Sends `call` to the controller, which may be away; tries again until `answered` was set.
  void Ask(std::function<void(std::shared_ptr<bool> answered)> call, std::shared_ptr<bool> answered);

  Engine& engine_;
  History& history_;
  ControllerHost& controller_;
  Random random_;
  const JobScript script_;
  std::string job_id_;
  int pending_ = 0;
};

}  // namespace studio::sim
