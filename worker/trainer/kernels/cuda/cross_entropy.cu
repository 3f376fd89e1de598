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

// y = cap * tanh(x / cap) (arXiv:2408.00118), and its slope as y has it.
struct SoftCap {
  float cap, inverse;
  __device__ __forceinline__ explicit SoftCap(float cap) : cap(cap), inverse(1 / cap) {}
  __device__ __forceinline__ float operator()(float x) const { return cap * tanhf(x * inverse); }
  __device__ __forceinline__ float Slope(float y) const { return 1 - y * inverse * (y * inverse); }
};
struct NoCap {
  __device__ __forceinline__ explicit NoCap(float) {}
  __device__ __forceinline__ float operator()(float x) const { return x; }
  __device__ __forceinline__ float Slope(float) const { return 1; }
};

// fmaxf drops NaN, the sum keeps it.
template <int N, typename Cap>
__device__ __forceinline__ void Add(MaxSum& into, float (&x)[N], Cap cap) {
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = cap(x[i]);
  float max = into.max;
#pragma unroll
  for (int i = 0; i < N; ++i) max = fmaxf(max, x[i] * LOG2_E);
  float sum = into.sum * Exp2(into.max - max);
#pragma unroll
  for (int i = 0; i < N; ++i) sum += Exp2(fmaf(x[i], LOG2_E, -max));
  into = {max, sum};
}

// Of all threads of the block, for every thread. `warps` is shared memory that nobody reads yet.
__device__ __forceinline__ MaxSum BlockMerge(MaxSum mine, MaxSum* warps) {
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) {
    mine = Merge(mine, {__shfl_xor_sync(0xffffffffu, mine.max, lane), __shfl_xor_sync(0xffffffffu, mine.sum, lane)});
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
  __syncthreads();
  MaxSum all = warps[0];
  for (int warp = 1; warp < blockDim.x / 32; ++warp) all = Merge(all, warps[warp]);
  return all;
}

template <typename T>
__device__ __forceinline__ float Element(const T* at) {
  Vec<T, 1> x;
  x.Load(at);
  float f[1];
  x.Get(f);
  return f[0];
}

// What the second pass does to a logit.
template <typename Cap>
struct Gradient {
  float max, log_sum, scale;
  int label;
  Cap cap;

  __device__ __forceinline__ float operator()(float x, int column) const {
    const float y = cap(x);
    return scale * cap.Slope(y) * (Exp2(fmaf(y, LOG2_E, -max) - log_sum) - (column == label ? 1.0f : 0.0f));
  }
  // Differences to the maximum first: they are small where logits are huge.
  __device__ __forceinline__ float Loss(float label_logit) const {
    return LN_2 * (log_sum - fmaf(cap(label_logit), LOG2_E, -max));
  }
  template <typename T, int N>
  __device__ __forceinline__ void Write(Vec<T, N> x, T* row, int column) const {
    float f[N];
    x.Get(f);
#pragma unroll
    for (int i = 0; i < N; ++i) f[i] = (*this)(f[i], column + i);
    x.Set(f);
    x.Store(row + column);
  }
};

template <typename T, int N, typename Cap>
__device__ __forceinline__ void CrossEntropy(T* logits, const long long* labels, float* losses, int vocab,
                                             long long stride, const float* scale, Cap cap) {
  __shared__ MaxSum warps[32];
  const long long row = blockIdx.x;
  logits += row * stride;
  const int label = static_cast<int>(labels[row]);
  const int misaligned = reinterpret_cast<unsigned long long>(logits) % 16 / sizeof(T);
  const int head = min(vocab, (N - misaligned) % N), steps = (vocab - head) / N, tail = head + steps * N;
  // Before any thread overwrites it.
  const float label_logit = threadIdx.x == 0 ? Element(logits + label) : 0.0f;

  MaxSum mine = {LOWEST, 0.0f};
  const auto one = [&](int i) {
    float f[1] = {Element(logits + i)};
    Add(mine, f, cap);
  };
  for (int i = threadIdx.x; i < head; i += blockDim.x) one(i);
  for (int i = tail + threadIdx.x; i < vocab; i += blockDim.x) one(i);
#pragma unroll 4
  for (int step = threadIdx.x; step < steps; step += blockDim.x) {
    Vec<T, N> x;
    x.Load(logits + head + step * N);
    float f[N];
    x.Get(f);
    Add(mine, f, cap);
  }
  const MaxSum all = BlockMerge(mine, warps);
  const Gradient<Cap> gradient = {all.max, __log2f(all.sum), *scale, label, cap};
  if (threadIdx.x == 0) losses[row] = gradient.Loss(label_logit);

  const auto write_one = [&](int i) {
    Vec<T, 1> x;
    x.Load(logits + i);
    gradient.Write(x, logits, i);
  };
  for (int i = threadIdx.x; i < head; i += blockDim.x) write_one(i);
  for (int i = tail + threadIdx.x; i < vocab; i += blockDim.x) write_one(i);
#pragma unroll 4
  for (int step = threadIdx.x; step < steps; step += blockDim.x) {
    Vec<T, N> x;
    x.Load(logits + head + step * N);
    gradient.Write(x, logits, head + step * N);
  }
}

// The row stays on the multiprocessor between the passes: kKept accesses of a thread in its registers, the rest in
// shared memory, so that memory is read once. A row of 128 thousand takes a multiprocessor for itself. Rows must be
// aligned, and blockDim.x * N * (kKept + shared accesses) elements cover them.
template <typename T, int N, int kKept, typename Cap>
__device__ __forceinline__ void CrossEntropyKept(T* logits, const long long* labels, float* losses, int vocab,
                                                 long long stride, const float* scale, Cap cap) {
  extern __shared__ uint4 shared_row[];
  __shared__ MaxSum warps[32];
  const long long row = blockIdx.x;
  logits += row * stride;
  const int label = static_cast<int>(labels[row]), steps = vocab / N, threads = blockDim.x;
  const float label_logit = threadIdx.x == 0 ? Element(logits + label) : 0.0f;

  MaxSum mine = {LOWEST, 0.0f};
  Vec<T, N> kept[kKept];
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int step = k * threads + threadIdx.x;
    if (step < steps) kept[k].Load(logits + step * N);
  }
#pragma unroll 4
  for (int step = kKept * threads + threadIdx.x; step < steps; step += threads) {
    Vec<T, N> x;
    x.Load(logits + step * N);
    x.Store(reinterpret_cast<T*>(shared_row + step - kKept * threads));
    float f[N];
    x.Get(f);
    Add(mine, f, cap);
  }
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    if (k * threads + threadIdx.x >= steps) continue;
    float f[N];
    kept[k].Get(f);
    Add(mine, f, cap);
  }
  const MaxSum all = BlockMerge(mine, warps);
  const Gradient<Cap> gradient = {all.max, __log2f(all.sum), *scale, label, cap};
  if (threadIdx.x == 0) losses[row] = gradient.Loss(label_logit);
#pragma unroll
  for (int k = 0; k < kKept; ++k) {
    const int step = k * threads + threadIdx.x;
    if (step < steps) gradient.Write(kept[k], logits, step * N);
  }
#pragma unroll 4
  for (int step = kKept * threads + threadIdx.x; step < steps; step += threads) {
    Vec<T, N> x;
    x.Load(reinterpret_cast<const T*>(shared_row + step - kKept * threads));
    gradient.Write(x, logits, step * N);
  }
}

#define CROSS_ENTROPY_KERNELS(T, NAME, N, SUFFIX, CAP)                                                                \
  extern "C" __global__ void __launch_bounds__(1024)                                                                 \
      cross_entropy_##NAME##SUFFIX(T* logits, const long long* labels, float* losses, int vocab, long long stride,   \
                                   const float* scale, float cap) {                                                  \
    CrossEntropy<T, N>(logits, labels, losses, vocab, stride, scale, CAP(cap));                                      \
  }                                                                                                                  \
  extern "C" __global__ void __launch_bounds__(1024)                                                                 \
      cross_entropy_kept_##NAME##SUFFIX(T* logits, const long long* labels, float* losses, int vocab,                \
                                        long long stride, const float* scale, float cap) {                           \
    CrossEntropyKept<T, N, 4>(logits, labels, losses, vocab, stride, scale, CAP(cap));                               \
  }

CROSS_ENTROPY_KERNELS(bf16, bf16, 8, , NoCap)
CROSS_ENTROPY_KERNELS(float, f32, 4, , NoCap)
CROSS_ENTROPY_KERNELS(bf16, bf16, 8, _capped, SoftCap)
CROSS_ENTROPY_KERNELS(float, f32, 4, _capped, SoftCap)
