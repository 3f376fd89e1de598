// What every kernel below shares. All files of this folder are one program, in the BUILD file's order; NVRTC compiles
// it where it runs, so no header of CUDA's may be included. Kernels are extern "C": the host finds them by name,
// <kernel>_<type>_v<elements per access>[_p<accesses per thread>].

struct bf16 {
  unsigned short bits;
};

// One access of 16 bytes (half of it where head sizes ask for it, one element where nothing is aligned) as it lies in
// memory; floats only where arithmetic is, to save registers.
template <typename T, int N>
struct Raw;
template <>
struct Raw<bf16, 8> {
  using Type = uint4;
};
template <>
struct Raw<bf16, 4> {
  using Type = uint2;
};
template <>
struct Raw<bf16, 1> {
  using Type = unsigned short;
};
template <>
struct Raw<float, 4> {
  using Type = float4;
};
template <>
struct Raw<float, 1> {
  using Type = float;
};

__device__ __forceinline__ void UnpackPair(unsigned pair, float& low, float& high) {
  low = __uint_as_float(pair << 16);
  high = __uint_as_float(pair & 0xffff0000u);
}
// To the nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ unsigned RoundPair(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ __forceinline__ void Unpack(uint4 raw, float (&f)[8]) {
  UnpackPair(raw.x, f[0], f[1]);
  UnpackPair(raw.y, f[2], f[3]);
  UnpackPair(raw.z, f[4], f[5]);
  UnpackPair(raw.w, f[6], f[7]);
}
__device__ __forceinline__ void Unpack(uint2 raw, float (&f)[4]) {
  UnpackPair(raw.x, f[0], f[1]);
  UnpackPair(raw.y, f[2], f[3]);
}
__device__ __forceinline__ void Unpack(unsigned short raw, float (&f)[1]) {
  f[0] = __uint_as_float(unsigned(raw) << 16);
}
__device__ __forceinline__ void Unpack(float4 raw, float (&f)[4]) {
  f[0] = raw.x;
  f[1] = raw.y;
  f[2] = raw.z;
  f[3] = raw.w;
}
__device__ __forceinline__ void Unpack(float raw, float (&f)[1]) { f[0] = raw; }

__device__ __forceinline__ void Pack(const float (&f)[8], uint4& raw) {
  raw = make_uint4(RoundPair(f[0], f[1]), RoundPair(f[2], f[3]), RoundPair(f[4], f[5]), RoundPair(f[6], f[7]));
}
__device__ __forceinline__ void Pack(const float (&f)[4], uint2& raw) {
  raw = make_uint2(RoundPair(f[0], f[1]), RoundPair(f[2], f[3]));
}
__device__ __forceinline__ void Pack(const float (&f)[1], unsigned short& raw) {
  raw = static_cast<unsigned short>(RoundPair(f[0], 0.0f));
}
__device__ __forceinline__ void Pack(const float (&f)[4], float4& raw) { raw = make_float4(f[0], f[1], f[2], f[3]); }
__device__ __forceinline__ void Pack(const float (&f)[1], float& raw) { raw = f[0]; }

template <typename T, int N>
struct Vec {
  typename Raw<T, N>::Type raw;

  __device__ __forceinline__ void Load(const T* from) {
    raw = *reinterpret_cast<const typename Raw<T, N>::Type*>(from);
  }
  __device__ __forceinline__ void Store(T* to) const { *reinterpret_cast<typename Raw<T, N>::Type*>(to) = raw; }
  __device__ __forceinline__ void Get(float (&f)[N]) const { Unpack(raw, f); }
  __device__ __forceinline__ void Set(const float (&f)[N]) { Pack(f, raw); }
};

// N floats, four at a time where N allows.
template <int N>
__device__ __forceinline__ void LoadFloats(const float* from, float (&f)[N]) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      f[i] = four.x;
      f[i + 1] = four.y;
      f[i + 2] = four.z;
      f[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) f[i] = from[i];
  }
}

// Element rounded as T stores it.
__device__ __forceinline__ float Rounded(float x, bf16) { return __uint_as_float(RoundPair(0.0f, x) & 0xffff0000u); }
__device__ __forceinline__ float Rounded(float x, float) { return x; }

__device__ __forceinline__ float WarpSum(float x) {
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  return x;
}

// Sum over a block of whole warps, in a fixed order, for every thread. `scratch` is 32 floats of shared memory that no
// thread may still read: a kernel that sums again passes another one.
__device__ __forceinline__ float BlockSum(float x, float* scratch) {
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  x = WarpSum(x);
  if (warps == 1) return x;
  if (lane == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  return WarpSum(lane < warps ? scratch[lane] : 0.0f);
}

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// SplitMix64's mixer, as the host's counter_random.h has it: RandomBits(key, index) mixes key + (index + 1) * GOLDEN.
#define GOLDEN 0x9e3779b97f4a7c15ull
__device__ __forceinline__ unsigned long long Mix(unsigned long long z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f
