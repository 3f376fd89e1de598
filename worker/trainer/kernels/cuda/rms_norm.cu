// One block a row; a thread keeps its P accesses of N elements in registers from the first pass to the second.

// See kSmallestNormWeight in operations.h.
__device__ __forceinline__ float NormWeight(float w) { return fabsf(w) < 0x1p-60f ? 0x1p-60f : w; }

template <typename T, int N, int P>
__device__ __forceinline__ void RmsForward(T* residual, const T* delta, const T* weight, T* normed, float* rstd,
                                           int width, long long residual_stride, long long delta_stride,
                                           long long normed_stride, float eps) {
  __shared__ float scratch[32];
  const long long row = blockIdx.x;
  residual += row * residual_stride;
  normed += row * normed_stride;
  Vec<T, N> x[P];
#pragma unroll
  for (int p = 0; p < P; ++p) {
    const int column = (p * blockDim.x + threadIdx.x) * N;
    if (column < width) x[p].Load(residual + column);
  }
  float sum = 0;
  if (delta != nullptr) {
    delta += row * delta_stride;
    Vec<T, N> more[P];
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const int column = (p * blockDim.x + threadIdx.x) * N;
      if (column < width) more[p].Load(delta + column);
    }
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const int column = (p * blockDim.x + threadIdx.x) * N;
      if (column >= width) continue;
      float a[N], b[N];
      x[p].Get(a);
      more[p].Get(b);
#pragma unroll
      for (int i = 0; i < N; ++i) a[i] += b[i];
      x[p].Set(a);
      x[p].Store(residual + column);
    }
  }
#pragma unroll
  for (int p = 0; p < P; ++p) {
    if ((p * blockDim.x + threadIdx.x) * N >= width) continue;
    float a[N];
    x[p].Get(a);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += a[i] * a[i];
  }
  const float scale = rsqrtf(BlockSum(sum, scratch) / width + eps);
  if (threadIdx.x == 0) rstd[row] = scale;
#pragma unroll
  for (int p = 0; p < P; ++p) {
    const int column = (p * blockDim.x + threadIdx.x) * N;
    if (column >= width) continue;
    Vec<T, N> w;
    w.Load(weight + column);
    float a[N], b[N];
    x[p].Get(a);
    w.Get(b);
#pragma unroll
    for (int i = 0; i < N; ++i) a[i] = Rounded(a[i] * scale, T()) * NormWeight(b[i]);
    x[p].Set(a);
    x[p].Store(normed + column);
  }
}

// Blocks take rows in turn. kWeight: each keeps its columns' share of d_weight in registers meanwhile, and `partial`
// [blocks, width] receives the shares.
template <typename T, int N, int P, bool kWeight>
__device__ __forceinline__ void RmsBackward(const T* d_normed, const T* normed, const T* weight, const float* rstd,
                                            T* d_residual, float* partial, int rows, int width, int accumulate,
                                            long long d_normed_stride, long long normed_stride,
                                            long long d_residual_stride) {
  __shared__ float scratch[2][32];
  float share[P][N];
#pragma unroll
  for (int p = 0; p < P; ++p) {
#pragma unroll
    for (int i = 0; i < N; ++i) share[p][i] = 0;
  }
  int turn = 0;
  for (long long row = blockIdx.x; row < rows; row += gridDim.x, turn ^= 1) {
    Vec<T, N> dn[P], n[P], dx[P];
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const int column = (p * blockDim.x + threadIdx.x) * N;
      if (column >= width) continue;
      dn[p].Load(d_normed + row * d_normed_stride + column);
      n[p].Load(normed + row * normed_stride + column);
      if (accumulate) dx[p].Load(d_residual + row * d_residual_stride + column);
    }
    const float scale = rstd[row];
    float dot = 0;
#pragma unroll
    for (int p = 0; p < P; ++p) {
      if ((p * blockDim.x + threadIdx.x) * N >= width) continue;
      float a[N], b[N];
      dn[p].Get(a);
      n[p].Get(b);
#pragma unroll
      for (int i = 0; i < N; ++i) dot += a[i] * b[i];
    }
    const float mean = BlockSum(dot, scratch[turn]) / width;
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const int column = (p * blockDim.x + threadIdx.x) * N;
      if (column >= width) continue;
      Vec<T, N> weights;
      weights.Load(weight + column);
      float a[N], b[N], w[N], d[N];
      dn[p].Get(a);
      n[p].Get(b);
      weights.Get(w);
      if (accumulate) {
        dx[p].Get(d);
      } else {
#pragma unroll
        for (int i = 0; i < N; ++i) d[i] = 0;
      }
#pragma unroll
      for (int i = 0; i < N; ++i) {
        w[i] = NormWeight(w[i]);
        const float x_hat = b[i] * __frcp_rn(w[i]);
        if (kWeight) share[p][i] += a[i] * x_hat;
        d[i] += scale * (a[i] * w[i] - x_hat * mean);
      }
      dx[p].Set(d);
      dx[p].Store(d_residual + row * d_residual_stride + column);
    }
  }
  if (!kWeight) return;
#pragma unroll
  for (int p = 0; p < P; ++p) {
    const int column = (p * blockDim.x + threadIdx.x) * N;
    if (column >= width) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) partial[static_cast<long long>(blockIdx.x) * width + column + i] = share[p][i];
  }
}

// d_weight += the blocks' shares. Blocks of [32 columns, 8 slices].
extern "C" __global__ void rms_d_weight(const float* partial, float* d_weight, int blocks, int width) {
  __shared__ float slices[8][32];
  const int column = blockIdx.x * 32 + threadIdx.x;
  float sum = 0;
  if (column < width) {
    for (int block = threadIdx.y; block < blocks; block += 8)
      sum += partial[static_cast<long long>(block) * width + column];
  }
  slices[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int slice = 1; slice < 8; ++slice) sum += slices[slice][threadIdx.x];
  d_weight[column] += sum;
}

#define RMS_FORWARD(T, NAME, N, P, MAX)                                                                             \
  extern "C" __global__ void __launch_bounds__(MAX) rms_forward_##NAME##_v##N##_p##P(                               \
      T* residual, const T* delta, const T* weight, T* normed, float* rstd, int width, long long residual_stride,   \
      long long delta_stride, long long normed_stride, float eps) {                                                 \
    RmsForward<T, N, P>(residual, delta, weight, normed, rstd, width, residual_stride, delta_stride, normed_stride, \
                        eps);                                                                                       \
  }
#define RMS_BACKWARD(T, NAME, N, P, MAX, KIND, WEIGHT)                                                                 \
  extern "C" __global__ void __launch_bounds__(MAX) KIND##_##NAME##_v##N##_p##P(                                       \
      const T* d_normed, const T* normed, const T* weight, const float* rstd, T* d_residual, float* partial, int rows, \
      int width, int accumulate, long long d_normed_stride, long long normed_stride, long long d_residual_stride) {    \
    RmsBackward<T, N, P, WEIGHT>(d_normed, normed, weight, rstd, d_residual, partial, rows, width, accumulate,         \
                                 d_normed_stride, normed_stride, d_residual_stride);                                   \
  }
#define RMS_KERNELS(T, NAME, N, P, MAX)                 \
  RMS_FORWARD(T, NAME, N, P, MAX)                       \
  RMS_BACKWARD(T, NAME, N, P, MAX, rms_backward, false) \
  RMS_BACKWARD(T, NAME, N, P, MAX, rms_backward_dw, true)

RMS_KERNELS(bf16, bf16, 8, 1, 1024)
RMS_KERNELS(bf16, bf16, 8, 2, 1024)
RMS_KERNELS(bf16, bf16, 8, 4, 512)
RMS_KERNELS(bf16, bf16, 1, 8, 1024)
RMS_KERNELS(float, f32, 4, 1, 1024)
RMS_KERNELS(float, f32, 4, 4, 1024)
RMS_KERNELS(float, f32, 1, 8, 1024)
