// A thread turns N pairs of one head of one row: elements [j, j + N) of the head's first half with those of its second.

template <int N>
__device__ __forceinline__ void Turn(float (&a)[N], float (&b)[N], const float* cosine, const float* sine, float sign) {
  float c[N], s[N];
  LoadFloats<N>(cosine, c);
  LoadFloats<N>(sine, s);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float x = a[i], y = b[i], sn = s[i] * sign;
    a[i] = x * c[i] - y * sn;
    b[i] = y * c[i] + x * sn;
  }
}

// [rows, heads, half / N] threads, counted flat.
template <typename T, int N>
__device__ __forceinline__ void Rope(T* qkv, const float* cosine, const float* sine, unsigned threads, unsigned heads,
                                     unsigned half, long long stride, float sign) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= threads) return;
  const unsigned steps = half / N;
  const unsigned j = index % steps * N, head = index / steps % heads, row = index / steps / heads;
  T* const at = qkv + row * stride + head * 2 * half + j;
  Vec<T, N> first, second;
  first.Load(at);
  second.Load(at + half);
  float a[N], b[N];
  first.Get(a);
  second.Get(b);
  const long long angle = static_cast<long long>(row) * half + j;
  Turn<N>(a, b, cosine + angle, sine + angle, sign);
  first.Set(a);
  second.Set(b);
  first.Store(at);
  second.Store(at + half);
}

// Strides of a [batch, heads, length, head_dim] tensor, in elements. As the host's.
struct HeadStrides {
  long long batch, head, position;
};

// [rows, heads + 2 * kv_heads, half / N] threads, counted flat.
template <typename T, int N>
__device__ __forceinline__ void RopeGather(const T* dq, const T* dk, const T* dv, HeadStrides q, HeadStrides k,
                                           HeadStrides v, const float* cosine, const float* sine, T* d_qkv,
                                           unsigned threads, unsigned heads, unsigned kv_heads, unsigned length,
                                           unsigned half, long long stride) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= threads) return;
  const unsigned steps = half / N, all = heads + 2 * kv_heads;
  const unsigned j = index % steps * N, head = index / steps % all, row = index / steps / all;
  const unsigned batch = row / length, position = row % length;
  const bool turned = head < heads + kv_heads;
  const HeadStrides strides = head < heads ? q : turned ? k : v;
  const unsigned within = head < heads ? head : turned ? head - heads : head - heads - kv_heads;
  const T* const from = (head < heads ? dq
                         : turned     ? dk
                                      : dv) +
                        batch * strides.batch + within * strides.head + position * strides.position + j;
  T* const to = d_qkv + row * stride + head * 2 * half + j;
  Vec<T, N> first, second;
  first.Load(from);
  second.Load(from + half);
  if (turned) {
    float a[N], b[N];
    first.Get(a);
    second.Get(b);
    const long long angle = static_cast<long long>(row) * half + j;
    Turn<N>(a, b, cosine + angle, sine + angle, -1.0f);
    first.Set(a);
    second.Set(b);
  }
  first.Store(to);
  second.Store(to + half);
}

#define ROPE_KERNELS(T, NAME, N)                                                                                  \
  extern "C" __global__ void rope_##NAME##_v##N(T* qkv, const float* cosine, const float* sine, unsigned threads, \
                                                unsigned heads, unsigned half, long long stride, float sign) {    \
    Rope<T, N>(qkv, cosine, sine, threads, heads, half, stride, sign);                                            \
  }                                                                                                               \
  extern "C" __global__ void rope_gather_##NAME##_v##N(                                                           \
      const T* dq, const T* dk, const T* dv, HeadStrides q, HeadStrides k, HeadStrides v, const float* cosine,    \
      const float* sine, T* d_qkv, unsigned threads, unsigned heads, unsigned kv_heads, unsigned length,          \
      unsigned half, long long stride) {                                                                          \
    RopeGather<T, N>(dq, dk, dv, q, k, v, cosine, sine, d_qkv, threads, heads, kv_heads, length, half, stride);   \
  }

ROPE_KERNELS(bf16, bf16, 8)
ROPE_KERNELS(bf16, bf16, 4)
ROPE_KERNELS(bf16, bf16, 1)
ROPE_KERNELS(float, f32, 4)
ROPE_KERNELS(float, f32, 1)
