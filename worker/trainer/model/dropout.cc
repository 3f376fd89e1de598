#include "worker/trainer/model/dropout.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "worker/trainer/model/counter_random.h"

namespace studio {
namespace {

constexpr int64_t kChannels = 4;  // of a draw
constexpr double kDraws = 32768;
constexpr uint64_t kDrawn = 0x7fff;

// True where a channel is dropped, [T, channels] on the CPU.
at::Tensor DrawOnHost(int64_t channels, uint64_t site_key, uint32_t threshold, const at::Tensor& ids) {
  at::Tensor mask = at::empty({ids.size(0), channels}, at::TensorOptions(at::kBool));
  const int64_t* id = ids.data_ptr<int64_t>();
  bool* out = mask.data_ptr<bool>();
  at::parallel_for(0, ids.size(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const uint64_t key = RandomKey(site_key, static_cast<uint64_t>(id[t]));
      for (int64_t c = 0; c < channels; c += kChannels) {
        const uint64_t bits = DropoutBits(key, static_cast<uint32_t>(c / kChannels));
        for (int64_t i = 0; i < std::min(kChannels, channels - c); ++i) {
          out[t * channels + c + i] = (bits >> (16 * i) & kDrawn) < threshold;
        }
      }
    }
  });
  return mask;
}

// counter_random.h over tensors: int64 wraps as uint64 does, and only a shift must be told that there is no sign.
at::Tensor ShiftRight(const at::Tensor& z, int64_t by) {
  return z.bitwise_right_shift(at::Scalar(by)).bitwise_and_((int64_t{1} << (64 - by)) - 1);
}
at::Tensor Mixed(at::Tensor z) {
  z = z.bitwise_xor(ShiftRight(z, 30)).mul_(static_cast<int64_t>(0xbf58476d1ce4e5b9ull));
  z = z.bitwise_xor(ShiftRight(z, 27)).mul_(static_cast<int64_t>(0x94d049bb133111ebull));
  return z.bitwise_xor(ShiftRight(z, 31));
}

// Rows or columns of adapter `which`.
at::Tensor Part(const at::Tensor& of_all, int64_t dim, const AdapterDropout& dropout, size_t which) {
  const int64_t r = of_all.size(dim) / static_cast<int64_t>(dropout.adapters());
  return of_all.narrow(dim, static_cast<int64_t>(which) * r, r);
}

}  // namespace

uint32_t AdapterDropout::Threshold() const {
  return static_cast<uint32_t>(std::clamp<int64_t>(std::lround(p * kDraws), 0, kDrawn));
}
double AdapterDropout::Kept() const { return kDraws / (kDraws - Threshold()); }

at::Tensor DropMaskOnDevice(int64_t channels, const AdapterDropout& dropout, size_t which) {
  constexpr auto kStep = static_cast<int64_t>(kGolden);
  const auto site = static_cast<int64_t>(dropout.sites[which]);
  const at::Tensor site_key = Mixed(Mixed(dropout.step_key + kStep).bitwise_xor(site));
  const at::Tensor key = Mixed(Mixed(dropout.ids + kStep).bitwise_xor(site_key));
  const int64_t draws = (channels + kChannels - 1) / kChannels;
  // DropoutBits.
  constexpr int64_t kWord = 0xffffffff, kWeyl = 0x9e3779b9;
  const at::Tensor index = at::arange(draws, dropout.ids.options()).mul_(kWeyl);
  at::Tensor x = (key.unsqueeze(1) + index).bitwise_and_(kWord);
  at::Tensor y = ShiftRight(key, 32).unsqueeze(1);
  for (int64_t round = 0; round < 3; ++round) {
    const at::Tensor product = x * int64_t{0xd256d193};
    x = ShiftRight(product, 32).bitwise_xor_(y).bitwise_xor_(round * kWeyl & kWord);
    y = product.bitwise_and(kWord);
  }
  const std::array<at::Tensor, 2> words = {x, y};
  const auto threshold = static_cast<int64_t>(dropout.Threshold());
  std::vector<at::Tensor> parts;
  for (int64_t i = 0; i < kChannels; ++i) {
    const at::Tensor& word = words[static_cast<size_t>(i / 2)];
    parts.push_back(
        word.bitwise_right_shift(at::Scalar(i % 2 * 16)).bitwise_and_(static_cast<int64_t>(kDrawn)).lt(threshold));
  }
  return at::stack(parts, 2).flatten(1).narrow(1, 0, channels);
}

at::Tensor DropMask(int64_t channels, const AdapterDropout& dropout, size_t which) {
  if (dropout.ids.is_cuda()) return DropMaskOnDevice(channels, dropout, which);
  const auto step_key = static_cast<uint64_t>(dropout.step_key.item<int64_t>());
  const at::Tensor mask = DrawOnHost(channels, RandomKeyOfHash(step_key, dropout.sites[which]), dropout.Threshold(),
                                     dropout.ids.cpu().contiguous());
  return mask.to(dropout.ids.device());
}

at::Tensor Dropped(const at::Tensor& x, const AdapterDropout& dropout, size_t which) {
  return x.masked_fill(DropMask(x.size(1), dropout, which), 0);
}

at::Tensor DroppedLow(const at::Tensor& x, const at::Tensor& a, const AdapterDropout& dropout) {
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i < dropout.adapters(); ++i) {
    parts.push_back(at::mm(Dropped(x, dropout, i), Part(a, 0, dropout, i).t()));
  }
  return at::cat(parts, 1).mul_(dropout.Kept());
}

at::Tensor DroppedGradientOfA(const at::Tensor& d_low, const at::Tensor& x, const AdapterDropout& dropout) {
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i < dropout.adapters(); ++i) {
    parts.push_back(at::mm(Part(d_low, 1, dropout, i).t(), Dropped(x, dropout, i)));
  }
  return at::cat(parts, 0).mul_(dropout.Kept());
}

void AddDroppedBackward(const at::Tensor& d_low, const at::Tensor& a, const AdapterDropout& dropout,
                        const at::Tensor& dx) {
  for (size_t i = 0; i < dropout.adapters(); ++i) {
    const at::Tensor part = at::mm(Part(d_low, 1, dropout, i), Part(a, 0, dropout, i));
    dx.add_(Dropped(part, dropout, i), dropout.Kept());
  }
}

}  // namespace studio
