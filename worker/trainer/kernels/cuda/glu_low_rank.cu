// The gated activation and, from registers, its product with the next projection's A [rank, columns]
// (arXiv:2106.09685): one pass over memory less.
//
// mma.m16n8k16 multiplies [16 tokens, 16 columns] by [16 columns, 8 ranks]. Thread (g = lane / 4, q = lane % 4) must
// hold columns 2 q, 2 q + 1, 2 q + 8, 2 q + 9 of tokens g and g + 8, and of rank g. The order of columns in a sum is
// free: it loads 8 neighbouring ones, 16 bytes, and so does everyone of the ranks: two products by four of them each.

__device__ __forceinline__ void MultiplyWide(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                             unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

#define LOW_RANK_WARPS 8

// The warps' sums [16 tokens, 16 ranks], added up: thread 16 t + k receives that of token t and rank k.
__device__ __forceinline__ float LowRankSum(const float (&sum)[2][4]) {
  __shared__ float sums[LOW_RANK_WARPS][16][17];  // 17: rows in other banks
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[warp][g + j / 2 * 8][n * 8 + 2 * q + j % 2] = sum[n][j];
  }
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int w = 0; w < LOW_RANK_WARPS; ++w) total += sums[w][threadIdx.x / 16][threadIdx.x % 16];
  return total;
}

// Blocks of 16 tokens; the warps share the columns, 32 at a time. rank at most 16, width a multiple of 32.
template <typename Activation, bool DROPS>
__device__ __forceinline__ void GluLowRank(const bf16* gate_up, const bf16* a, bf16* out, bf16* low,
                                           const DropoutNumbers& dropout, int rows, int width, int rank, long long gate_up_stride, long long a_stride,
                                           long long out_stride, long long low_stride) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const long long first = static_cast<long long>(blockIdx.x) * 16 + g;
  unsigned long long keys[2] = {};
  if constexpr (DROPS) {
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      if (first + 8 * t < rows) keys[t] = TokenKey(dropout, dropout.sites[0], first + 8 * t);
    }
  }
  float sum[2][4] = {};
#pragma unroll 1
  for (int column = warp * 32 + q * 8; column < width; column += LOW_RANK_WARPS * 32) {
    uint4 gate[2], up[2], ranks[2];
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const long long row = first + 8 * t;
      gate[t] = up[t] = ranks[t] = make_uint4(0, 0, 0, 0);
      if (row < rows) {
        gate[t] = *reinterpret_cast<const uint4*>(gate_up + row * gate_up_stride + column);
        up[t] = *reinterpret_cast<const uint4*>(gate_up + row * gate_up_stride + width + column);
      }
      if (g + 8 * t < rank) ranks[t] = *reinterpret_cast<const uint4*>(a + (g + 8 * t) * a_stride + column);
    }
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      float x[8], u[8];
      Unpack(gate[t], x);
      Unpack(up[t], u);
#pragma unroll
      for (int i = 0; i < 8; ++i) x[i] *= Sigmoid(Activation::Inner(x[i])) * u[i];
      Pack(x, gate[t]);
      const long long row = first + 8 * t;
      if (row < rows) *reinterpret_cast<uint4*>(out + row * out_stride + column) = gate[t];
      if constexpr (DROPS) gate[t] = DropEight(gate[t], keys[t], column, dropout.threshold);
    }
    __syncwarp();  // what follows needs the whole warp
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      MultiplyWide(sum[n], gate[0].x, gate[1].x, gate[0].y, gate[1].y, ranks[n].x, ranks[n].y);
      MultiplyWide(sum[n], gate[0].z, gate[1].z, gate[0].w, gate[1].w, ranks[n].z, ranks[n].w);
    }
  }
  const int token = threadIdx.x / 16, k = threadIdx.x % 16;
  const float total[1] = {LowRankSum(sum) * (DROPS ? dropout.kept : 1)};
  const long long row = static_cast<long long>(blockIdx.x) * 16 + token;
  if (row >= rows || k >= rank) return;
  Vec<bf16, 1> rounded;
  rounded.Set(total);
  rounded.Store(low + row * low_stride + k);
}

#define LOW_RANK_KERNEL(ACTIVATION, NAME, DROPS)                                                                      \
  extern "C" __global__ void __launch_bounds__(256)                                                                  \
      NAME(const bf16* gate_up, const bf16* a, bf16* out, bf16* low, DropoutNumbers dropout, int rows, int width,    \
           int rank, long long gate_up_stride, long long a_stride, long long out_stride, long long low_stride) {     \
    GluLowRank<ACTIVATION, DROPS>(gate_up, a, out, low, dropout, rows, width, rank, gate_up_stride, a_stride,        \
                                  out_stride, low_stride);                                                           \
  }

LOW_RANK_KERNEL(Silu, silu_low_rank_bf16, false)
LOW_RANK_KERNEL(GeluTanh, gelu_low_rank_bf16, false)
LOW_RANK_KERNEL(Silu, silu_low_rank_dropped_bf16, true)
LOW_RANK_KERNEL(GeluTanh, gelu_low_rank_dropped_bf16, true)
