// Work on a device that is queued again and again in the same memory: recorded once as a CUDA graph, then replayed by
// one call, which spares the host its hundreds of launches. Elsewhere the same interface calls the work directly.
//
//   std::unique_ptr<Recorder> recorder = MakeRecorder(device);
//   std::unique_ptr<Recorded> step = recorder->Record(work);   // nothing has run yet
//   for (…) { write new inputs where the old ones were; step->Replay(); }
//
// Recorded work must not wait for the device, and reads and writes the addresses that it had then: they must stay. What
// it allocates and frees lies in a pool that all recordings of one recorder share, so that replays go one after
// another. It has run before, outside of a recording: libraries choose their algorithms and load code in the first run.
// The recorder outlives its recordings. One thread at a time. Throws what LibTorch throws.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace studio::planned {

class Recorded {
 public:
  virtual ~Recorded() = default;
  // Queues it on the device's current stream.
  virtual void Replay() = 0;
};

class Recorder {
 public:
  virtual ~Recorder() = default;
  // An exception of `work` comes through, and nothing is recorded.
  virtual std::unique_ptr<Recorded> Record(std::function<void()> work) = 0;
};

// Calls the work each time.
std::unique_ptr<Recorder> MakeDirectRecorder();

// CUDA graphs on a CUDA device, else direct calls. A binary or test links :with_cuda_graphs or :without_cuda_graphs.
std::unique_ptr<Recorder> MakeRecorder(c10::Device device);

}  // namespace studio::planned
