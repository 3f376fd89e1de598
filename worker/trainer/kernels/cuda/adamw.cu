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
  float root_correction;  // sqrt(1 - beta2^step)
  float kept;             // 1 - learning_rate * weight_decay
};

__device__ __forceinline__ float ClipFactor(const AdamWNumbers& numbers, float squares) {
  return numbers.max_grad_norm > 0 ? fminf(numbers.max_grad_norm / (sqrtf(squares) + 1e-6f), 1.0f) : 1.0f;
}

__device__ __forceinline__ void AdamWElement(const AdamWNumbers& numbers, float g, float& w, float& m, float& v) {
  m += numbers.one_minus_beta1 * (g - m);
  v = numbers.beta2 * v + numbers.one_minus_beta2 * g * g;
  w = w * numbers.kept - numbers.step_size * m / (sqrtf(v) / numbers.root_correction + numbers.epsilon);
}

// `copy` null: none. N elements a thread; 1 where memory is not aligned.
template <typename T, int N>
__device__ __forceinline__ void AdamW(float* weights, const float* grad, float* exp_avg, float* exp_avg_sq, T* copy,
                                      const float* sum_of_squares, long long count, AdamWNumbers numbers) {
  const long long at = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (at >= count) return;
  const float squares = *sum_of_squares;
  if (!isfinite(squares)) return;
  const float clip = ClipFactor(numbers, squares);
  Vec<float, N> weight, gradient, first, second;
  weight.Load(weights + at);
  gradient.Load(grad + at);
  first.Load(exp_avg + at);
  second.Load(exp_avg_sq + at);
  float w[N], g[N], m[N], v[N];
  weight.Get(w);
  gradient.Get(g);
  first.Get(m);
  second.Get(v);
#pragma unroll
  for (int i = 0; i < N; ++i) AdamWElement(numbers, g[i] * clip, w[i], m[i], v[i]);
  weight.Set(w);
  first.Set(m);
  second.Set(v);
  weight.Store(weights + at);
  first.Store(exp_avg + at);
  second.Store(exp_avg_sq + at);
  if (copy != nullptr) {
    Vec<T, N> rounded;
    rounded.Set(w);
    rounded.Store(copy + at);
  }
}

#define ADAMW_KERNEL(T, NAME, N)                                                                                       \
  extern "C" __global__ void adamw_##NAME##_v##N(float* weights, const float* grad, float* exp_avg, float* exp_avg_sq, \
                                                 T* copy, const float* sum_of_squares, long long count,                \
                                                 AdamWNumbers numbers) {                                               \
    AdamW<T, N>(weights, grad, exp_avg, exp_avg_sq, copy, sum_of_squares, count, numbers);                             \
  }

ADAMW_KERNEL(bf16, bf16, 4)
ADAMW_KERNEL(bf16, bf16, 1)
ADAMW_KERNEL(float, f32, 4)
ADAMW_KERNEL(float, f32, 1)
