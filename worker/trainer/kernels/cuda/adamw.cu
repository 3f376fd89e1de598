// The optimizer's step over flat memory. The sum of squares goes in two stages, so that its order is fixed.

template <typename T, int N>
__device__ __forceinline__ float SquaresOf(const T* from) {
  Vec<T, N> x;
  x.Load(from);
  float f[N], sum = 0;
  x.Get(f);
#pragma unroll
  for (int i = 0; i < N; ++i) sum += f[i] * f[i];
  return sum;
}

// partial [blocks].
template <typename T, int N>
__device__ __forceinline__ void SquaresPartial(const T* flat, float* partial, long long count) {
  __shared__ float scratch[32];
  const long long first = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const long long threads = static_cast<long long>(gridDim.x) * blockDim.x;
  float sum = 0;
  // Memory may start anywhere: up to N - 1 elements before the first aligned access, up to N - 1 behind the last.
  const long long head =
      min(count, static_cast<long long>((16 - reinterpret_cast<unsigned long long>(flat) % 16) % 16 / sizeof(T)));
  const long long accesses = (count - head) / N;
#pragma unroll 4
  for (long long i = first; i < accesses; i += threads) sum += SquaresOf<T, N>(flat + head + i * N);
  if (first < head) sum += SquaresOf<T, 1>(flat + first);
  const long long last = head + accesses * N + first;
  if (last < count) sum += SquaresOf<T, 1>(flat + last);
  sum = BlockSum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(512) squares_partial_f32(const float* flat, float* partial,
                                                                      long long count) {
  SquaresPartial<float, 4>(flat, partial, count);
}
extern "C" __global__ void __launch_bounds__(512) squares_partial_bf16(const bf16* flat, float* partial,
                                                                       long long count) {
  SquaresPartial<bf16, 8>(flat, partial, count);
}

// One block.
extern "C" __global__ void squares_total(const float* partial, float* total, int blocks) {
  __shared__ float scratch[32];
  float sum = 0;
  for (int i = threadIdx.x; i < blocks; i += blockDim.x) sum += partial[i];
  sum = BlockSum(sum, scratch);
  if (threadIdx.x == 0) *total = sum;
}

// As the host's.
struct AdamWNumbers {
  float max_grad_norm;  // 0: no clipping
  float one_minus_beta1, beta2, one_minus_beta2, epsilon;
  float step_size;        // learning_rate / (1 - beta1^step)
  float inverse_root_correction;  // 1 / sqrt(1 - beta2^step)
  float kept;             // 1 - learning_rate * weight_decay
};

__device__ __forceinline__ float ClipFactor(const AdamWNumbers& numbers, float squares) {
  return numbers.max_grad_norm > 0 ? fminf(numbers.max_grad_norm / (sqrtf(squares) + 1e-6f), 1.0f) : 1.0f;
}

// Within two last places of fp32: exact roots and quotients take more instructions than all the rest, and the kernels would wait
// for them instead of for memory.
__device__ __forceinline__ float Root(float x) {
  float y;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float Quotient(float x, float y) {
  float z;
  asm("div.approx.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
  return z;
}

__device__ __forceinline__ void AdamWElement(const AdamWNumbers& numbers, float g, float& w, float& m, float& v) {
  m += numbers.one_minus_beta1 * (g - m);
  v = numbers.beta2 * v + numbers.one_minus_beta2 * g * g;
  w = w * numbers.kept - Quotient(numbers.step_size * m, Root(v) * numbers.inverse_root_correction + numbers.epsilon);
}

struct AdamWEntry {  // as the host's
  float* weights;
  const float* grad;
  float *exp_avg, *exp_avg_sq;
  long long count;
  int decays, wide;  // wide: all four allow accesses of 16 bytes
};

template <int N>
__device__ __forceinline__ void AdamWAt(const AdamWEntry& entry, long long at, float clip, const AdamWNumbers& numbers) {
  Vec<float, N> weight, gradient, mean, square;
  weight.Load(entry.weights + at);
  gradient.Load(entry.grad + at);
  mean.Load(entry.exp_avg + at);
  square.Load(entry.exp_avg_sq + at);
  float w[N], g[N], m[N], v[N];
  weight.Get(w);
  gradient.Get(g);
  mean.Get(m);
  square.Get(v);
#pragma unroll
  for (int i = 0; i < N; ++i) AdamWElement(numbers, g[i] * clip, w[i], m[i], v[i]);
  weight.Set(w);
  mean.Set(m);
  square.Set(v);
  weight.Store(entry.weights + at);
  mean.Store(entry.exp_avg + at);
  square.Store(entry.exp_avg_sq + at);
}

// The grid's y counts the entries; blocks of one entry share its elements.
extern "C" __global__ void __launch_bounds__(256) adamw_f32(const AdamWEntry* entries, const float* sum_of_squares,
                                                            AdamWNumbers numbers) {
  const AdamWEntry entry = entries[blockIdx.y];
  const float squares = *sum_of_squares;
  if (!isfinite(squares)) return;
  const float clip = ClipFactor(numbers, squares);
  if (!entry.decays) numbers.kept = 1;
  const long long first = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const long long threads = static_cast<long long>(gridDim.x) * blockDim.x;
  const long long fours = entry.wide ? entry.count / 4 : 0;
  for (long long i = first; i < fours; i += threads) AdamWAt<4>(entry, 4 * i, clip, numbers);
  for (long long i = 4 * fours + first; i < entry.count; i += threads) AdamWAt<1>(entry, i, clip, numbers);
}
