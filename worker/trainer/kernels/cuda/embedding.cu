// Tokens come sorted, each with its place among the rows: the block at the first of a run of equal tokens adds up the
// run in its order, the others leave. No atomics, so the same bits each time.

template <typename T, int N>
__device__ __forceinline__ void EmbeddingGradient(const T* d_hidden, const int* sorted, const long long* place,
                                                  float* grad, int rows, int width, long long stride) {
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
  float* const out = grad + static_cast<long long>(token) * width + column;
  float sum[N];
  LoadFloats<N>(out, sum);
#pragma unroll 4
  for (int i = first; i < end; ++i) {
    Vec<T, N> x;
    x.Load(d_hidden + place[i] * stride + column);
    float f[N];
    x.Get(f);
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] += f[j];
  }
#pragma unroll
  for (int j = 0; j < N; ++j) out[j] = sum[j];
}

#define EMBEDDING_KERNEL(T, NAME, N)                                                                         \
  extern "C" __global__ void embedding_gradient_##NAME##_v##N(const T* d_hidden, const int* sorted,          \
                                                              const long long* place, float* grad, int rows, \
                                                              int width, long long stride) {                 \
    EmbeddingGradient<T, N>(d_hidden, sorted, place, grad, rows, width, stride);                             \
  }

EMBEDDING_KERNEL(bf16, bf16, 8)
EMBEDDING_KERNEL(bf16, bf16, 1)
EMBEDDING_KERNEL(float, f32, 4)
EMBEDDING_KERNEL(float, f32, 1)
