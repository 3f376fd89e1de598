// Many small matrices, copied, scaled and rounded by one launch: an adapter's weights into the borders of the frozen
// matrices. The grid's y counts the matrices; blocks of one matrix share its elements.

struct ScaledCopy {  // as the host's
  const float* from;  // contiguous
  void* to;
  long long to_stride;
  int width, count;  // count = rows * width
  float scale;
};

template <typename T>
__device__ __forceinline__ void CopyScaled(const ScaledCopy* copies) {
  const ScaledCopy copy = copies[blockIdx.y];
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < copy.count; i += gridDim.x * blockDim.x) {
    const float x[1] = {copy.from[i] * copy.scale};
    Vec<T, 1> out;
    out.Set(x);
    out.Store(static_cast<T*>(copy.to) + i / copy.width * copy.to_stride + i % copy.width);
  }
}

extern "C" __global__ void __launch_bounds__(256) scaled_copies_bf16(const ScaledCopy* copies) {
  CopyScaled<bf16>(copies);
}
extern "C" __global__ void __launch_bounds__(256) scaled_copies_f32(const ScaledCopy* copies) {
  CopyScaled<float>(copies);
}
