// Dropout before adapters' A (arXiv:2106.09685). An element is a function of its place: channel c of a token is dropped
// by the adapter of module `name` where 15 bits, the lower ones of the (c mod 4)th 16 from below of
//
//   DropoutBits(RandomKey(RandomKey(step key, name), token id), c / 4)
//
// are under p * 2^15, rounded. So masks are the same on every device and however a batch is split, nobody keeps one,
// and each adapter of a group has its own, as in PEFT. What is kept counts 1 / (1 - p) times: a factor of the products.
//
//   AdapterDropout dropout{.p = 0.1, .step_key = key, .ids = ids, .sites = {NameHash("…q_proj"), NameHash("…v_proj")}};
//   at::Tensor low = DroppedLow(x, a, dropout);
//
// Everything lies on one device and nothing waits for it, but that a device which is neither a CPU nor CUDA has its
// masks drawn by the host. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <vector>

namespace studio {

// 64 bits of a token's key and a counter: three rounds of Philox-2x32 (Salmon et al. 2011) on halves that the key
// fills. Kernels draw billions of them, for a third of what RandomBits takes there; keys are well mixed already.
inline uint64_t DropoutBits(uint64_t key, uint32_t index) {
  uint32_t x = static_cast<uint32_t>(key) + index * 0x9e3779b9u;
  uint32_t y = static_cast<uint32_t>(key >> 32);
  for (uint32_t round = 0; round < 3; ++round) {
    const uint64_t product = uint64_t{x} * 0xd256d193u;
    x = static_cast<uint32_t>(product >> 32) ^ y ^ (round * 0x9e3779b9u);
    y = static_cast<uint32_t>(product);
  }
  return uint64_t{y} << 32 | x;
}

struct AdapterDropout {
  double p = 0;
  at::Tensor step_key;          // [] int64: the bits of Pass::mask_key
  at::Tensor ids;               // [T] int64, as Batch::mask_ids
  std::vector<uint64_t> sites;  // NameHash of each adapter's module; their ranks are equal

  size_t adapters() const { return sites.size(); }
  // Of 2^15; below it, so that something is kept.
  uint32_t Threshold() const;
  // 1 / (1 - p) for the p that the threshold stands for.
  double Kept() const;
};

// [T, channels], true where adapter `which` drops.
at::Tensor DropMask(int64_t channels, const AdapterDropout& dropout, size_t which);
// The same by LibTorch's operations on the tensors' device: what DropMask does on CUDA.
at::Tensor DropMaskOnDevice(int64_t channels, const AdapterDropout& dropout, size_t which);
// x [T, D] with 0 where adapter `which` drops it, without the factor.
at::Tensor Dropped(const at::Tensor& x, const AdapterDropout& dropout, size_t which);

// Each adapter's drop(x) A^T side by side, [T, n r], given x [T, D] and their A below each other, a [n r, D].
at::Tensor DroppedLow(const at::Tensor& x, const at::Tensor& a, const AdapterDropout& dropout);
// Gradient of a, given d_low [T, n r].
at::Tensor DroppedGradientOfA(const at::Tensor& d_low, const at::Tensor& x, const AdapterDropout& dropout);
// dx [T, D] += that of x.
void AddDroppedBackward(const at::Tensor& d_low, const at::Tensor& a, const AdapterDropout& dropout,
                        const at::Tensor& dx);

}  // namespace studio
