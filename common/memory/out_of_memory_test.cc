#include "common/memory/out_of_memory.h"

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "absl/strings/ascii.h"

namespace studio {
namespace {

struct Row {
  const char* name;
  const char* text;
  Oom oom;
  // Which of the questions by source say yes: c CUDA, d cuDNN, m MPS, h CPU.
  const char* sources;
};

constexpr Row kRows[] = {
    {"CudaAllocator", "CUDA out of memory. Tried to allocate 2.00 GiB", Oom::kDevice, "c"},
    {"CudaAllocatorItselfFull",
     "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.12 GiB is "
     "free. Including non-PyTorch memory, this process has 77.98 GiB memory in use. Of the allocated memory 77.30 GiB "
     "is allocated by PyTorch, and 12.09 MiB is reserved by PyTorch but unallocated.",
     Oom::kDevice, "c"},
    {"CudaAllocatorCapped",
     "CUDA out of memory. Tried to allocate 64.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which 76.00 GiB is "
     "free. Including non-PyTorch memory, this process has 2.90 GiB memory in use. 2.37 GiB allowed; Of the allocated "
     "memory 2.30 GiB is allocated by PyTorch, and 12.09 MiB is reserved by PyTorch but unallocated.",
     Oom::kDevice, "c"},
    {"SomebodyElse",
     "CUDA out of memory. Tried to allocate 1.95 GiB. GPU 0 has a total capacity of 14.57 GiB of which 1.58 GiB is "
     "free. Process 2493055 has 12.02 GiB memory in use. Including non-PyTorch memory, this process has 966.00 MiB "
     "memory in use. Of the allocated memory 734.07 MiB is allocated by PyTorch, and 33.93 MiB is reserved by PyTorch "
     "but unallocated.",
     Oom::kDeviceHeldByOthers, "c"},
    {"BothHoldTooMuch",
     "CUDA out of memory. Tried to allocate 8.00 GiB. GPU 0 has a total capacity of 14.57 GiB of which 1.58 GiB is "
     "free. Process 2493055 has 4.99 GiB memory in use. Including non-PyTorch memory, this process has 8.00 GiB memory "
     "in use.",
     Oom::kDevice, "c"},
    {"CudaRuntime",
     "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
     Oom::kDevice, "c"},
    {"CudaRuntimeName", "cudaErrorMemoryAllocation: out of memory", Oom::kDevice, "c"},
    {"CudaDriverName", "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY", Oom::kDevice, "c"},
    {"Cublas", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", Oom::kDevice, "c"},
    {"Mig", "NVML_SUCCESS == r INTERNAL ASSERT FAILED at \"../c10/cuda/CUDACachingAllocator.cpp\":1090", Oom::kDevice,
     "c"},
    {"Cudnn8", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", Oom::kDevice, "cd"},
    {"Cudnn9", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", Oom::kDevice, "cd"},
    {"CudnnAmbiguous",
     "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.",
     Oom::kDevice, "cd"},
    {"Cudnn9OnTheHost", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", Oom::kHost, "h"},
    {"Nccl",
     "NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:3699, unhandled cuda error, NCCL version "
     "2.27.3\nncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'",
     Oom::kCollective, "c"},
    {"NcclBefore2_19", "Last error:\nCuda failure 'out of memory'", Oom::kCollective, "c"},
    {"NcclMalloc", "ncclUnhandledCudaError: Failed to CUDA malloc 4194304 bytes", Oom::kCollective, "c"},
    {"NcclHostAlloc", "Failed to CUDA host alloc 2097152 bytes", Oom::kCollective, "c"},
    {"Mps",
     "MPS backend out of memory (MPS allocated: 17.36 GB, other allocations: 613.56 MB, max allowed: 18.13 GB). Tried "
     "to allocate 192.00 MB on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit",
     Oom::kDevice, "m"},
    {"MpsGraph", "MPSGraph failed to allocate 1024 bytes", Oom::kDevice, "m"},
    {"MetalBuffer", "Invalid buffer size: 20.00 GiB", Oom::kDevice, "m"},
    {"CpuAllocator",
     "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
     "9 bytes. Error code 12 (Cannot allocate memory)",
     Oom::kHost, "h"},
    {"CpuAllocatorElsewhere", "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.", Oom::kHost,
     "h"},
    {"BadAlloc", "std::bad_alloc", Oom::kHost, "h"},
    {"Terminated", "terminate called after throwing an instance of 'std::bad_alloc' |   what():  std::bad_alloc",
     Oom::kHost, "h"},
    {"Mmap", "unable to mmap 269060552 bytes from file </models/a.safetensors>: Cannot allocate memory (12)",
     Oom::kHost, "h"},
    {"Rust", "memory allocation of 1073741824 bytes failed", Oom::kHost, "h"},
    {"Arrow", "Out of memory: malloc of size 8589934592 failed", Oom::kHost, "h"},

    {"Empty", "", Oom::kNone, ""},
    {"Blank", " \n\t", Oom::kNone, ""},
    {"Binary", "\x01\xff\xfe CUDA \x80", Oom::kNone, ""},
    {"IllegalAccess", "CUDA error: an illegal memory access was encountered", Oom::kNone, ""},
    {"DeviceAssert", "CUDA error: device-side assert triggered", Oom::kNone, ""},
    {"NoKernelImage", "CUDA error: no kernel image is available for execution on the device", Oom::kNone, ""},
    {"LaunchFailure", "CUDA error: unspecified launch failure", Oom::kNone, ""},
    {"TooManyResources", "CUDA error: too many resources requested for launch", Oom::kNone, ""},
    {"MisalignedAddress", "CUDA error: misaligned address", Oom::kNone, ""},
    {"EccError", "CUDA error: uncorrectable ECC error encountered", Oom::kNone, ""},
    {"CublasNotInitialized", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
     Oom::kNone, ""},
    {"CublasExecution", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", Oom::kNone, ""},
    {"CudnnExecution", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", Oom::kNone, ""},
    {"CudnnBadParameter", "cuDNN error: CUDNN_STATUS_BAD_PARAM", Oom::kNone, ""},
    {"CudnnInternal", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", Oom::kNone, ""},
    {"NcclTimeout", "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3, OpType=ALLREDUCE)", Oom::kNone,
     ""},
    {"NcclPeerGone", "NCCL error: ncclRemoteError: A call failed possibly due to a network error", Oom::kNone, ""},
    {"NcclOtherCuda", "ncclUnhandledCudaError: Last error:\nCuda failure 700 'an illegal memory access'", Oom::kNone,
     ""},
    {"NcclDriver", "Cuda failure 'CUDA driver version is insufficient for CUDA runtime version'", Oom::kNone, ""},
    {"MpsUnsupported", "MPS backend doesn't support float8_e4m3fn dtype", Oom::kNone, ""},
    {"MpsLargeArray", "MPSNDArray.mm:850: total bytes of NDArray > 2**32", Oom::kNone, ""},
    {"MetalCommandBuffer", "MPS: command buffer exited with error status", Oom::kNone, ""},
    {"BufferSize", "zlib: invalid buffer size -3", Oom::kNone, ""},
    {"Nnpack", "Could not initialize NNPACK! Reason: Out of memory.", Oom::kNone, ""},
    {"Xnnpack", "Failed to initialize XNNPACK! Reason: Out of memory.", Oom::kNone, ""},
    {"Shapes", "mat1 and mat2 shapes cannot be multiplied (8x16 and 32x8)", Oom::kNone, ""},
    {"Range", "index 12 is out of bounds for dimension 0 with size 3", Oom::kNone, ""},
    {"Disk", "/out/x: no space left on device", Oom::kNone, ""},
    {"Files", "open /a: Too many open files", Oom::kNone, ""},
    {"Threads", "libgomp: Thread creation failed: Resource temporarily unavailable", Oom::kNone, ""},
    {"SharedMemory", "No space left on device: unable to open shared memory object </torch_1>", Oom::kNone, ""},
    {"SpeaksOfMemory", "the memory of the device was read: 80 GiB", Oom::kNone, ""},
    {"APrompt", "prompt: \"Why did my program run out of memory?\"", Oom::kNone, ""},
    {"AllocationSucceeded", "memory allocation of 64 bytes", Oom::kNone, ""},
    {"NvmlOther", "NVML_ERROR_UNKNOWN: Driver/library version mismatch", Oom::kNone, ""},
};

class OomTextTest : public testing::TestWithParam<Row> {};

TEST_P(OomTextTest, IsToldInAnyLetterCase) {
  const Row& row = GetParam();
  const std::string text = row.text;
  for (const std::string& one : {text, absl::AsciiStrToLower(text), absl::AsciiStrToUpper(text)}) {
    EXPECT_EQ(OomOf(one), row.oom) << one;
    EXPECT_EQ(IsOutOfMemory(one), row.oom != Oom::kNone) << one;
    const std::string sources = row.sources;
    EXPECT_EQ(IsCudaOutOfMemory(one), sources.find('c') != sources.npos) << one;
    EXPECT_EQ(IsCudnnOutOfMemory(one), sources.find('d') != sources.npos) << one;
    EXPECT_EQ(IsMpsOutOfMemory(one), sources.find('m') != sources.npos) << one;
    EXPECT_EQ(IsCpuOutOfMemory(one), sources.find('h') != sources.npos) << one;
  }
}

TEST_P(OomTextTest, IsToldAmidOtherWords) {
  const std::string text = std::string("rank 3: step 7: ") + GetParam().text + "\nframe #0: c10::Error::Error";
  EXPECT_EQ(OomOf(text), GetParam().oom) << text;
}

INSTANTIATE_TEST_SUITE_P(Texts, OomTextTest, testing::ValuesIn(kRows),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(OomTable, HasAtLeastAsManyTextsThatAreNone) {
  int some = 0, none = 0;
  for (const Row& row : kRows) ++(row.oom == Oom::kNone ? none : some);
  EXPECT_GE(none, some);
}

// An exception of somebody else's making.
class Wordless : public std::exception {
 public:
  const char* what() const noexcept override { return nullptr; }
};

TEST(OomOfException, GoesByTypeBeforeText) {
  EXPECT_EQ(OomOf(std::bad_alloc()), Oom::kHost);
  EXPECT_EQ(OomOf(std::bad_array_new_length()), Oom::kNone) << "a negative size is a bug";
  EXPECT_EQ(OomOf(std::system_error(std::make_error_code(std::errc::not_enough_memory))), Oom::kHost);
  EXPECT_EQ(OomOf(std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again))), Oom::kNone);
  EXPECT_EQ(OomOf(std::runtime_error("CUDA out of memory. Tried to allocate 2.00 GiB")), Oom::kDevice);
  EXPECT_EQ(OomOf(std::runtime_error("")), Oom::kNone);
  EXPECT_FALSE(IsOutOfMemory(std::out_of_range("vector::_M_range_check")));
}

TEST(OomOfException, TakesOneWithoutAText) { EXPECT_EQ(OomOf(Wordless()), Oom::kNone); }

TEST(CudaReport, ANumberThatLacksOrIsNoneAccusesNobody) {
  for (const char* text : {"CUDA out of memory. Tried to allocate 1.95 GiB. GPU 0 has a total capacity of 14.57 GiB",
                           "CUDA out of memory. Tried to allocate lots. GPU 0 has a total capacity of 14.57 GiB of "
                           "which 1.58 GiB is free. this process has 966.00 MiB memory in use.",
                           "CUDA out of memory. Tried to allocate 1.95 furlongs. GPU 0 has a total capacity of 14.57 "
                           "GiB. this process has 966.00 MiB memory in use.",
                           "CUDA out of memory. Tried to allocate "}) {
    EXPECT_EQ(OomOf(text), Oom::kDevice) << text;
  }
}

TEST(CudaReport, ReadsWholeBytes) {
  EXPECT_EQ(OomOf("CUDA out of memory. Tried to allocate 512 bytes. GPU 0 has a total capacity of 14.57 GiB of which 0 "
                  "bytes is free. this process has 966.00 MiB memory in use."),
            Oom::kDeviceHeldByOthers);
}

TEST(OomRemedy, EveryKindHasOne) {
  EXPECT_EQ(OomRemedy(Oom::kNone), "");
  for (const Oom oom : {Oom::kDevice, Oom::kHost, Oom::kCollective, Oom::kDeviceHeldByOthers, Oom::kHostHeldByOthers}) {
    EXPECT_FALSE(OomRemedy(oom).empty());
  }
}

}  // namespace
}  // namespace studio
