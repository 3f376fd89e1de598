#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/StreamGuard.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>

#include "worker/trainer/planned/recorder.h"

namespace studio::planned {
namespace {

class CudaGraph final : public Recorded {
 public:
  explicit CudaGraph(c10::Device device) : device_(device) {}

  at::cuda::CUDAGraph& graph() { return graph_; }
  void Replay() override {
    const c10::DeviceGuard guard(device_);
    graph_.replay();
  }

 private:
  const c10::Device device_;
  at::cuda::CUDAGraph graph_;
};

class CudaRecorder final : public Recorder {
 public:
  explicit CudaRecorder(c10::Device device)
      : device_(device),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())),
        pool_(at::cuda::graph_pool_handle()) {}

  std::unique_ptr<Recorded> Record(std::function<void()> work) override {
    // The default stream cannot be recorded, so another one is; what is queued is finished first. Then the memory that
    // the direct runs left in the allocator's cache goes back: the pool of recordings takes as much of its own.
    c10::cuda::getCurrentCUDAStream(device_.index()).synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();
    // Holds the current device, too, which CUDAGraph takes for its own.
    const c10::StreamGuard guard(stream_.unwrap());
    auto recorded = std::make_unique<CudaGraph>(device_);
    at::cuda::CUDAGraph& graph = recorded->graph();
    // Other threads may go on using CUDA: checkpoints are copied, and NCCL looks after its events.
    graph.capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
    std::exception_ptr failure;
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
    if (failure == nullptr) {
      graph.capture_end();
      return recorded;
    }
    // The stream must leave the recording whatever became of it.
    try {
      graph.capture_end();
    } catch (const std::exception&) {
      // The first failure says more.
    }
    recorded.reset();
    std::rethrow_exception(failure);
  }

 private:
  const c10::Device device_;
  const c10::cuda::CUDAStream stream_;
  const at::cuda::MempoolId_t pool_;
};

}  // namespace

std::unique_ptr<Recorder> MakeRecorder(c10::Device device) {
  if (!device.is_cuda()) return MakeDirectRecorder();
  return std::make_unique<CudaRecorder>(device);
}

}  // namespace studio::planned
