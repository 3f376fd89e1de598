// One block a row, two passes: maximum and sum of exponentials together (arXiv:1805.02867), then the gradient.
// Everything is in units of log2. Rows may start anywhere: their ends go element by element, what is aligned between
// them by 16 bytes.

struct MaxSum {
  float max, sum;  // sum of 2^(x - max)
};
// The start is finite, so that a row of -inf meets no inf - inf.
#define LOWEST -3.0e38f

__device__ __forceinline__ MaxSum Merge(MaxSum a, MaxSum b) {
  const float max = fmaxf(a.max, b.max);
  return {max, a.sum * Exp2(a.max - max) + b.sum * Exp2(b.max - max)};
}

// fmaxf drops NaN, the sum keeps it.
template <int N>
__device__ __forceinline__ void Add(MaxSum& into, const float (&x)[N]) {
  float max = into.max;
#pragma unroll
  for (int i = 0; i < N; ++i) max = fmaxf(max, x[i] * LOG2_E);
  float sum = into.sum * Exp2(into.max - max);
#pragma unroll
  for (int i = 0; i < N; ++i) sum += Exp2(fmaf(x[i], LOG2_E, -max));
  into = {max, sum};
}

template <typename T, int N>
__device__ __forceinline__ void CrossEntropy(T* logits, const long long* labels, float* losses, int vocab,
                                             long long stride, float scale) {
  __shared__ MaxSum warps[32];
  __shared__ float label_power;
  const long long row = blockIdx.x;
  logits += row * stride;
  const int label = static_cast<int>(labels[row]);
  const int misaligned = reinterpret_cast<unsigned long long>(logits) % 16 / sizeof(T);
  const int head = min(vocab, (N - misaligned) % N), steps = (vocab - head) / N, tail = head + steps * N;

  MaxSum mine = {LOWEST, 0.0f};
  const auto one = [&](int i) {
    Vec<T, 1> x;
    x.Load(logits + i);
    float f[1];
    x.Get(f);
    Add<1>(mine, f);
  };
  for (int i = threadIdx.x; i < head; i += blockDim.x) one(i);
  for (int i = tail + threadIdx.x; i < vocab; i += blockDim.x) one(i);
#pragma unroll 4
  for (int step = threadIdx.x; step < steps; step += blockDim.x) {
    Vec<T, N> x;
    x.Load(logits + head + step * N);
    float f[N];
    x.Get(f);
    Add<N>(mine, f);
  }
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) {
    mine = Merge(mine, {__shfl_xor_sync(0xffffffffu, mine.max, lane), __shfl_xor_sync(0xffffffffu, mine.sum, lane)});
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
  if (threadIdx.x == 0) {  // before any thread overwrites it
    Vec<T, 1> x;
    x.Load(logits + label);
    float f[1];
    x.Get(f);
    label_power = f[0];
  }
  __syncthreads();
  MaxSum all = warps[0];
  for (int warp = 1; warp < blockDim.x / 32; ++warp) all = Merge(all, warps[warp]);
  const float log_sum = __log2f(all.sum);
  // Differences to the maximum first: they are small where logits are huge.
  if (threadIdx.x == 0) losses[row] = LN_2 * (log_sum - fmaf(label_power, LOG2_E, -all.max));

  const auto gradient = [&](float x, int i) {
    return scale * (Exp2(fmaf(x, LOG2_E, -all.max) - log_sum) - (i == label ? 1.0f : 0.0f));
  };
  const auto write_one = [&](int i) {
    Vec<T, 1> x;
    x.Load(logits + i);
    float f[1];
    x.Get(f);
    f[0] = gradient(f[0], i);
    x.Set(f);
    x.Store(logits + i);
  };
  for (int i = threadIdx.x; i < head; i += blockDim.x) write_one(i);
  for (int i = tail + threadIdx.x; i < vocab; i += blockDim.x) write_one(i);
#pragma unroll 4
  for (int step = threadIdx.x; step < steps; step += blockDim.x) {
    const int at = head + step * N;
    Vec<T, N> x;
    x.Load(logits + at);
    float f[N];
    x.Get(f);
#pragma unroll
    for (int i = 0; i < N; ++i) f[i] = gradient(f[i], at + i);
    x.Set(f);
    x.Store(logits + at);
  }
}

extern "C" __global__ void __launch_bounds__(1024)
    cross_entropy_bf16(bf16* logits, const long long* labels, float* losses, int vocab, long long stride, float scale) {
  CrossEntropy<bf16, 8>(logits, labels, losses, vocab, stride, scale);
}
extern "C" __global__ void __launch_bounds__(1024)
    cross_entropy_f32(float* logits, const long long* labels, float* losses, int vocab, long long stride, float scale) {
  CrossEntropy<float, 4>(logits, labels, losses, vocab, stride, scale);
}
