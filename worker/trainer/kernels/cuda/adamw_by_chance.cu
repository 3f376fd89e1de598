// AdamW where weights, gradient and states are all bf16: arithmetic in fp32, results rounded by chance.

// One of the two bf16 around x, as near in expectation as x itself: up where the 16 bits that are cut off, with 16
// random ones added, carry over. What is not finite stays.
__device__ __forceinline__ float RoundedByChance(float x, unsigned long long bits) {
  const unsigned raw = __float_as_uint(x);
  if ((raw & 0x7f800000u) == 0x7f800000u) return x;
  return __uint_as_float((raw + static_cast<unsigned>(bits & 0xffffu)) & 0xffff0000u);
}

// N elements a thread; 1 where memory is not aligned. Element i draws from the counter first + i.
template <int N>
__device__ __forceinline__ void AdamWByChance(bf16* weights, const bf16* grad, bf16* exp_avg, bf16* exp_avg_sq,
                                              const float* sum_of_squares, long long count, AdamWNumbers numbers,
                                              unsigned long long key, unsigned long long first) {
  const long long at = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (at >= count) return;
  const float squares = *sum_of_squares;
  if (!isfinite(squares)) return;
  const float clip = ClipFactor(numbers, squares);
  Vec<bf16, N> weight, gradient, mean, square;
  weight.Load(weights + at);
  gradient.Load(grad + at);
  mean.Load(exp_avg + at);
  square.Load(exp_avg_sq + at);
  float w[N], g[N], m[N], v[N];
  weight.Get(w);
  gradient.Get(g);
  mean.Get(m);
  square.Get(v);
  unsigned long long counter = key + (first + static_cast<unsigned long long>(at)) * GOLDEN;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    AdamWElement(numbers, g[i] * clip, w[i], m[i], v[i]);
    counter += GOLDEN;
    const unsigned long long bits = Mix(counter);
    w[i] = RoundedByChance(w[i], bits);
    m[i] = RoundedByChance(m[i], bits >> 16);
    v[i] = RoundedByChance(v[i], bits >> 32);
  }
  // Rounding to the nearest changes none of them any more.
  weight.Set(w);
  mean.Set(m);
  square.Set(v);
  weight.Store(weights + at);
  mean.Store(exp_avg + at);
  square.Store(exp_avg_sq + at);
}

#define ADAMW_BY_CHANCE_KERNEL(N)                                                                               \
  extern "C" __global__ void adamw_by_chance_bf16_v##N(bf16* weights, const bf16* grad, bf16* exp_avg,          \
                                                       bf16* exp_avg_sq, const float* sum_of_squares,           \
                                                       long long count, AdamWNumbers numbers,                   \
                                                       unsigned long long key, unsigned long long first) {      \
    AdamWByChance<N>(weights, grad, exp_avg, exp_avg_sq, sum_of_squares, count, numbers, key, first);           \
  }

ADAMW_BY_CHANCE_KERNEL(8)
ADAMW_BY_CHANCE_KERNEL(1)
