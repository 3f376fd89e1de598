// The gradient's rows are floats, or bf16 that are rounded once a call.
template <int N>
__device__ __forceinline__ void LoadAsFloats(const float* from, float (&f)[N]) {
  LoadFloats<N>(from, f);
}
template <int N>
__device__ __forceinline__ void LoadAsFloats(const bf16* from, float (&f)[N]) {
  Vec<bf16, N> x;
  x.Load(from);
  x.Get(f);
}
template <int N>
__device__ __forceinline__ void StoreFloats(float* to, const float (&f)[N]) {
#pragma unroll
  for (int j = 0; j < N; ++j) to[j] = f[j];
}
template <int N>
__device__ __forceinline__ void StoreFloats(bf16* to, const float (&f)[N]) {
  Vec<bf16, N> x;
  x.Set(f);
  x.Store(to);
}

// Tokens come sorted, each with its place among the rows: the block at the first of a run of equal tokens adds up the
// run in its order, the others leave. No atomics, so the same bits each time.

template <typename T, int N, typename G>
__device__ __forceinline__ void EmbeddingGradient(const T* d_hidden, const int* sorted, const long long* place, G* grad, int rows, int width, long long stride) {
  const int first = blockIdx.x;
  const int token = sorted[first];
  if (first > 0 && sorted[first - 1] == token) return;
  int end = first + 1, beyond = rows;  // the first row behind the run, by bisection: runs can be long
  while (end < beyond) {
    const int middle = end + (beyond - end) / 2;
    if (sorted[middle] == token) {
      end = middle + 1;
    } else {
      beyond = middle;
    }
  }
  const int column = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (column >= width) return;
  G* const out = grad + static_cast<long long>(token) * width + column;
  float sum[N];
  LoadAsFloats<N>(out, sum);
#pragma unroll 4
  for (int i = first; i < end; ++i) {
    Vec<T, N> x;
    x.Load(d_hidden + place[i] * stride + column);
    float f[N];
    x.Get(f);
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] += f[j];
  }
  StoreFloats<N>(out, sum);
}

#define EMBEDDING_KERNEL(T, NAME, N, G)                                                                  \
  extern "C" __global__ void embedding_gradient_##NAME##_v##N(const T* d_hidden, const int* sorted,      \
                                                              const long long* place, G* grad, int rows, \
                                                              int width, long long stride) {             \
    EmbeddingGradient<T, N, G>(d_hidden, sorted, place, grad, rows, width, stride);                      \
  }

EMBEDDING_KERNEL(bf16, bf16, 8, float)
EMBEDDING_KERNEL(bf16, bf16, 1, float)
EMBEDDING_KERNEL(bf16, into_bf16_bf16, 8, bf16)
EMBEDDING_KERNEL(bf16, into_bf16_bf16, 1, bf16)
EMBEDDING_KERNEL(float, f32, 4, float)
EMBEDDING_KERNEL(float, f32, 1, float)
