#include "worker/trainer/planned/recorder.h"

#include <utility>

namespace studio::planned {
namespace {

class DirectCall final : public Recorded {
 public:
  explicit DirectCall(std::function<void()> work) : work_(std::move(work)) {}
  void Replay() override { work_(); }

 private:
  const std::function<void()> work_;
};

class DirectRecorder final : public Recorder {
 public:
  std::unique_ptr<Recorded> Record(std::function<void()> work) override {
    return std::make_unique<DirectCall>(std::move(work));
  }
};

}  // namespace

std::unique_ptr<Recorder> MakeDirectRecorder() { return std::make_unique<DirectRecorder>(); }

}  // namespace studio::planned
