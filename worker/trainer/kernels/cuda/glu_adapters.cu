// The backward pass of the gated activation together with the gradients of the low-rank adapters around it. Those are
// products of [ranks, tokens] and [tokens, columns] whose second factor exists in registers here and nowhere else: the
// tensor cores take it from there, and three passes over memory are saved.
//
// mma.m16n8k8 multiplies [16 ranks, 8 tokens] by [8 tokens, 8 columns]. A thread (g = lane / 4, q = lane % 4) must hold
// tokens 2 q and 2 q + 1 of one column of the second factor. It loads 8 columns of those two tokens, 16 bytes each, and
// uses them one after the other: product i of 8 works on the columns 8 n + i, n = 0 … 7.

struct LowRank {                 // as the host's
  const bf16 *down, *gate, *up;  // [rows, rank], strides below
  long long down_stride, gate_stride, up_stride;
};

// A thread holds elements 2 q, 2 q + 1 of row g, before of the matrix, after of its transpose.
__device__ __forceinline__ unsigned Transposed(unsigned pair) {
  unsigned out;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(pair));
  return out;
}

__device__ __forceinline__ void Multiply(float (&sum)[4], const unsigned (&ranks)[2], unsigned column) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(ranks[0]), "r"(ranks[1]), "r"(column));
}

// [16 ranks, 8 tokens] from rows of `low`; zeros beyond `rank` and `end`. rank is even.
__device__ __forceinline__ void LoadRanks(const bf16* low, long long stride, int row, int end, int first, int rank,
                                          unsigned (&ranks)[2]) {
  const bf16* const from = low + row * stride + first;
  ranks[0] = row < end && first < rank ? *reinterpret_cast<const unsigned*>(from) : 0;
  ranks[1] = row < end && first + 8 < rank ? *reinterpret_cast<const unsigned*>(from + 8) : 0;
}

__device__ __forceinline__ unsigned& Word(uint4& four, int i) { return reinterpret_cast<unsigned*>(&four)[i]; }

// Blocks of 4 warps: 64 columns by `chunk` tokens, of which a warp takes every fourth 8. `partial` [chunks, 3, 16,
// width] receives the chunk's sums: out by down, d_gate by gate, d_up by up.
template <typename Activation, bool DROPS>
__device__ __forceinline__ void GluAdapters(const bf16* d_out, bf16* gate_up, LowRank low,
                                            const DropoutNumbers& dropout, float* partial, int rows, int width, int rank, int chunk, long long d_out_stride,
                                            long long gate_up_stride) {
  // Column 8 n + i lies at 8 i + n: so a thread's pair of sums lies together, and 72 keeps the rows' banks apart.
  __shared__ __align__(16) float sums[3][16][72];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int column = blockIdx.x * 64 + g * 8;
  const int begin = blockIdx.y * chunk, end = min(rows, begin + chunk);
  unsigned long long site = 0;
  if constexpr (DROPS) site = SiteKey(dropout, dropout.sites[0]);
  float sum[3][8][4];
#pragma unroll
  for (int m = 0; m < 3; ++m) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[m][i][j] = 0;
    }
  }
  for (int tile = begin + warp * 8; tile < end; tile += 32) {
    uint4 gate[2], up[2], d[2];
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const long long row = tile + 2 * q + t;
      gate[t] = up[t] = d[t] = make_uint4(0, 0, 0, 0);
      if (row >= end) continue;
      gate[t] = *reinterpret_cast<const uint4*>(gate_up + row * gate_up_stride + column);
      up[t] = *reinterpret_cast<const uint4*>(gate_up + row * gate_up_stride + width + column);
      d[t] = *reinterpret_cast<const uint4*>(d_out + row * d_out_stride + column);
    }
    uint4 draws[2] = {};
    if constexpr (DROPS) {
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        if (tile + 2 * q + t < end) draws[t] = DrawEight(TokenKeyOf(dropout, site, tile + 2 * q + t), column);
      }
    }
    unsigned ranks[3][2];
    LoadRanks(low.down, low.down_stride, tile + g, end, 2 * q, rank, ranks[0]);
    LoadRanks(low.gate, low.gate_stride, tile + g, end, 2 * q, rank, ranks[1]);
    LoadRanks(low.up, low.up_stride, tile + g, end, 2 * q, rank, ranks[2]);
    __syncwarp();  // what follows needs the whole warp
#pragma unroll
    for (int m = 0; m < 3; ++m) {
      ranks[m][0] = Transposed(ranks[m][0]);
      ranks[m][1] = Transposed(ranks[m][1]);
    }
#pragma unroll
    for (int w = 0; w < 4; ++w) {  // two columns of both tokens
      float out[2][2];
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        float x[2], u[2], y[2];
        UnpackPair(Word(gate[t], w), x[0], x[1]);
        UnpackPair(Word(up[t], w), u[0], u[1]);
        UnpackPair(Word(d[t], w), y[0], y[1]);
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const float s = Sigmoid(Activation::Inner(x[c])), activated = x[c] * s;
          out[t][c] = activated * u[c];
          x[c] = y[c] * u[c] * (s + activated * (1 - s) * Activation::Slope(x[c]));
          u[c] = y[c] * activated;
        }
        if constexpr (DROPS) {  // from the down projection's adapter alone
          const int kept = static_cast<int>(KeptBits(Word(draws[t], w), dropout.threshold));
          if ((kept << 16) >= 0) out[t][0] = 0;
          if (kept >= 0) out[t][1] = 0;
        }
        Word(gate[t], w) = RoundPair(x[0], x[1]);
        Word(up[t], w) = RoundPair(u[0], u[1]);
      }
#pragma unroll
      for (int c = 0; c < 2; ++c) {  // both tokens' low or high halves side by side
        const unsigned halves = c == 0 ? 0x5410 : 0x7632;
        Multiply(sum[0][2 * w + c], ranks[0], RoundPair(out[0][c], out[1][c]));
        Multiply(sum[1][2 * w + c], ranks[1], __byte_perm(Word(gate[0], w), Word(gate[1], w), halves));
        Multiply(sum[2][2 * w + c], ranks[2], __byte_perm(Word(up[0], w), Word(up[1], w), halves));
      }
    }
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const long long row = tile + 2 * q + t;
      if (row >= end) continue;
      *reinterpret_cast<uint4*>(gate_up + row * gate_up_stride + column) = gate[t];
      *reinterpret_cast<uint4*>(gate_up + row * gate_up_stride + width + column) = up[t];
    }
  }
  // The warps one after the other, so that the order is fixed.
  for (int turn = 0; turn < 4; ++turn) {
    if (warp == turn) {
#pragma unroll
      for (int m = 0; m < 3; ++m) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
#pragma unroll
          for (int j = 0; j < 4; j += 2) {
            float2& place = *reinterpret_cast<float2*>(&sums[m][g + j * 4][i * 8 + 2 * q]);
            const float2 before = turn == 0 ? make_float2(0, 0) : place;
            place = make_float2(before.x + sum[m][i][j], before.y + sum[m][i][j + 1]);
          }
        }
      }
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i < 3 * 16 * 64; i += blockDim.x) {
    const int m = i / (16 * 64), k = i / 64 % 16, j = i % 64;
    if (k < rank) {
      partial[((static_cast<long long>(blockIdx.y) * 3 + m) * 16 + k) * width + blockIdx.x * 64 + j] =
          sums[m][k][j % 8 * 8 + j / 8];
    }
  }
}

#define GLU_ADAPTERS_KERNEL(ACTIVATION, NAME, DROPS)                                                                  \
  extern "C" __global__ void __launch_bounds__(128, 3)                                                               \
      NAME(const bf16* d_out, bf16* gate_up, LowRank low, DropoutNumbers dropout, float* partial, int rows,          \
           int width, int rank, int chunk, long long d_out_stride, long long gate_up_stride) {                       \
    GluAdapters<ACTIVATION, DROPS>(d_out, gate_up, low, dropout, partial, rows, width, rank, chunk, d_out_stride,    \
                                   gate_up_stride);                                                                  \
  }

GLU_ADAPTERS_KERNEL(Silu, silu_adapters_bf16, false)
GLU_ADAPTERS_KERNEL(GeluTanh, gelu_adapters_bf16, false)
GLU_ADAPTERS_KERNEL(Silu, silu_adapters_dropped_bf16, true)
GLU_ADAPTERS_KERNEL(GeluTanh, gelu_adapters_dropped_bf16, true)

// The chunks' sums, added to down_a [rank, width] and gate_b, up_b [width, rank]: blocks of 64 columns of
// one of the three. A thread's neighbours write beside it; they read `partial` in another order, from the cache.
extern "C" __global__ void glu_adapter_sums(const float* partial, float* down_a, float* gate_b, float* up_b, int chunks,
                                            int width, int rank, float a_scale, float b_scale,
                                            long long down_a_stride) {
  const int m = blockIdx.y, first = blockIdx.x * 64;
  for (int i = threadIdx.x; i < 64 * rank; i += blockDim.x) {
    const int k = m == 0 ? i / 64 : i % rank, j = first + (m == 0 ? i % 64 : i / rank);
    float sum = 0;
#pragma unroll 4
    for (int chunk = 0; chunk < chunks; ++chunk) {
      sum += partial[((static_cast<long long>(chunk) * 3 + m) * 16 + k) * width + j];
    }
    if (m == 0) {
      down_a[k * down_a_stride + j] += a_scale * sum;
    } else {
      (m == 1 ? gate_b : up_b)[static_cast<long long>(j) * rank + k] += b_scale * sum;
    }
  }
}
