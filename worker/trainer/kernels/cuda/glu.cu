// Both activations are x * sigmoid(v(x)): v = x for SiLU, and for GELU's tanh form v = sqrt(8 / pi) (x + 0.044715 x^3),
// since 1 + tanh(u) = 2 sigmoid(2 u).

struct Silu {
  static __device__ __forceinline__ float Inner(float x) { return x; }
  static __device__ __forceinline__ float Slope(float) { return 1.0f; }
};
struct GeluTanh {
  static __device__ __forceinline__ float Inner(float x) { return 1.5957691216057308f * (x + 0.044715f * x * x * x); }
  static __device__ __forceinline__ float Slope(float x) { return 1.5957691216057308f * (1 + 0.134145f * x * x); }
};

__device__ __forceinline__ float Sigmoid(float x) { return __fdividef(1.0f, 1.0f + Exp2(-LOG2_E * x)); }

// [rows, width / N] threads, counted flat.
template <typename Activation, typename T, int N>
__device__ __forceinline__ void GluForward(const T* gate_up, T* out, unsigned threads, unsigned width,
                                           long long gate_up_stride, long long out_stride) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= threads) return;
  const unsigned steps = width / N, row = index / steps, column = index % steps * N;
  const T* const from = gate_up + row * gate_up_stride + column;
  Vec<T, N> gate, up;
  gate.Load(from);
  up.Load(from + width);
  float g[N], u[N];
  gate.Get(g);
  up.Get(u);
#pragma unroll
  for (int i = 0; i < N; ++i) g[i] *= Sigmoid(Activation::Inner(g[i])) * u[i];
  gate.Set(g);
  gate.Store(out + row * out_stride + column);
}

// `d_out` and `out` may be one.
template <typename Activation, typename T, int N>
__device__ __forceinline__ void GluBackward(const T* d_out, T* gate_up, T* out, unsigned threads, unsigned width,
                                            long long d_out_stride, long long gate_up_stride, long long out_stride) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= threads) return;
  const unsigned steps = width / N, row = index / steps, column = index % steps * N;
  T* const at = gate_up + row * gate_up_stride + column;
  Vec<T, N> gate, up, d;
  gate.Load(at);
  up.Load(at + width);
  d.Load(d_out + row * d_out_stride + column);
  float g[N], u[N], y[N], again[N];
  gate.Get(g);
  up.Get(u);
  d.Get(y);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float s = Sigmoid(Activation::Inner(g[i])), activated = g[i] * s;
    again[i] = activated * u[i];
    g[i] = y[i] * u[i] * (s + activated * (1 - s) * Activation::Slope(g[i]));
    u[i] = y[i] * activated;
  }
  gate.Set(g);
  up.Set(u);
  gate.Store(at);
  up.Store(at + width);
  if (out != nullptr) {
    d.Set(again);
    d.Store(out + row * out_stride + column);
  }
}

#define GLU_KERNELS(ACTIVATION, KIND, T, NAME, N)                                                                     \
  extern "C" __global__ void KIND##_forward_##NAME##_v##N(const T* gate_up, T* out, unsigned threads, unsigned width, \
                                                          long long gate_up_stride, long long out_stride) {           \
    GluForward<ACTIVATION, T, N>(gate_up, out, threads, width, gate_up_stride, out_stride);                           \
  }                                                                                                                   \
  extern "C" __global__ void KIND##_backward_##NAME##_v##N(const T* d_out, T* gate_up, T* out, unsigned threads,      \
                                                           unsigned width, long long d_out_stride,                    \
                                                           long long gate_up_stride, long long out_stride) {          \
    GluBackward<ACTIVATION, T, N>(d_out, gate_up, out, threads, width, d_out_stride, gate_up_stride, out_stride);     \
  }
#define GLU_TYPES(ACTIVATION, KIND)            \
  GLU_KERNELS(ACTIVATION, KIND, bf16, bf16, 8) \
  GLU_KERNELS(ACTIVATION, KIND, bf16, bf16, 1) \
  GLU_KERNELS(ACTIVATION, KIND, float, f32, 4) \
  GLU_KERNELS(ACTIVATION, KIND, float, f32, 1)

GLU_TYPES(Silu, silu)
GLU_TYPES(GeluTanh, gelu)
