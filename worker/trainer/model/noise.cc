#include "worker/trainer/model/noise.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <cmath>

#include "worker/trainer/model/counter_random.h"

namespace studio {

at::Tensor EmbeddingNoise(const Pass& pass, int64_t width, double alpha) {
  const at::Tensor ids = pass.mask_ids.cpu().contiguous();
  const at::Tensor noise = at::empty({ids.size(0), width}, at::TensorOptions(at::kFloat));
  const int64_t* id = ids.data_ptr<int64_t>();
  float* out = noise.data_ptr<float>();
  const uint64_t site = RandomKey(pass.mask_key, "neftune");
  for (size_t i = 0; i + 1 < pass.cu_seqlens.size(); ++i) {
    const int64_t length = pass.cu_seqlens[i + 1] - pass.cu_seqlens[i];
    const double size = alpha / std::sqrt(static_cast<double>(length * width));
    at::parallel_for(pass.cu_seqlens[i], pass.cu_seqlens[i + 1], 64, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const uint64_t key = RandomKey(site, static_cast<uint64_t>(id[t]));
        for (int64_t c = 0; c < width; ++c) {
          out[t * width + c] = static_cast<float>(size * (2 * Uniform(key, static_cast<uint64_t>(c)) - 1));
        }
      }
    });
  }
  return noise;
}

}  // namespace studio
