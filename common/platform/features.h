// Names of what a machine may have or lack at run time, as Inventory.features lists them.
#pragma once

namespace studio::features {

// The device multiplies bfloat16 itself: CUDA from compute capability 8.0, CPUs with AVX512-BF16, AMX or ARMv8.6.
inline constexpr char kBf16[] = "bf16";
inline constexpr char kFp16[] = "fp16";
inline constexpr char kSdpa[] = "sdpa";
// LibTorch's FlashAttention: CUDA from compute capability 8.0.
inline constexpr char kFlashAttention2[] = "flash_attention_2";
// Shared libraries that were found by dlopen.
inline constexpr char kNvml[] = "nvml";
inline constexpr char kNccl[] = "nccl";
inline constexpr char kBitsandbytes[] = "bitsandbytes";

}  // namespace studio::features
