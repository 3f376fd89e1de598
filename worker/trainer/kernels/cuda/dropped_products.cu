// Products of low-rank adapters whose input is dropped (arXiv:2106.09685). `rank` is that of one adapter and even; blocks of
// ranks by 16.

// One of the adapters and 16 of its ranks: blocks count through all such parts.
struct RankPart {
  int parts, adapter, first, ranks;

  __device__ __forceinline__ RankPart(int index, int adapters, int rank) {
    const int tiles = (rank + 15) / 16;
    parts = adapters * tiles;
    adapter = index % parts / tiles;
    first = index % tiles * 16;
    ranks = min(rank - first, 16);
  }
};

__device__ __forceinline__ unsigned long long SiteOf(const DropoutNumbers& dropout, int adapter) {
  return adapter == 0 ? dropout.sites[0] : (adapter == 1 ? dropout.sites[1] : dropout.sites[2]);
}

// low [rows, low_columns] = drop(x [rows, width]) a^T: blocks of 16 tokens by a part, as in glu_low_rank.cu. The parts of
// the same tokens follow each other and find x in the cache.
extern "C" __global__ void __launch_bounds__(256)
    dropped_low_bf16(const bf16* x, const bf16* a, bf16* low, DropoutNumbers dropout, int rows, int width, int rank,
                     int adapters, int low_columns, long long x_stride, long long a_stride, long long low_stride) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const RankPart part(blockIdx.x, adapters, rank);
  const long long tile = blockIdx.x / part.parts * 16LL;
  const int first_rank = part.adapter * rank + part.first;
  unsigned long long keys[2] = {};
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    if (tile + g + 8 * t < rows) keys[t] = TokenKey(dropout, SiteOf(dropout, part.adapter), tile + g + 8 * t);
  }
  float sum[2][4] = {};
#pragma unroll 2
  for (int column = warp * 32 + q * 8; column < width; column += LOW_RANK_WARPS * 32) {
    uint4 tokens[2], ranks[2];
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      const long long row = tile + g + 8 * t;
      tokens[t] = ranks[t] = make_uint4(0, 0, 0, 0);
      if (row < rows) tokens[t] = *reinterpret_cast<const uint4*>(x + row * x_stride + column);
      if (g + 8 * t < part.ranks) {
        ranks[t] = *reinterpret_cast<const uint4*>(a + (first_rank + g + 8 * t) * a_stride + column);
      }
    }
#pragma unroll
    for (int t = 0; t < 2; ++t) tokens[t] = DropEight(tokens[t], keys[t], column, dropout.threshold);
    __syncwarp();  // what follows needs the whole warp
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      MultiplyWide(sum[n], tokens[0].x, tokens[1].x, tokens[0].y, tokens[1].y, ranks[n].x, ranks[n].y);
      MultiplyWide(sum[n], tokens[0].z, tokens[1].z, tokens[0].w, tokens[1].w, ranks[n].z, ranks[n].w);
    }
  }
  const int token = threadIdx.x / 16, k = threadIdx.x % 16;
  const float total[1] = {dropout.kept * LowRankSum(sum)};
  const long long row = tile + token;
  if (row >= rows) return;
  if (k < part.ranks) {
    Vec<bf16, 1> rounded;
    rounded.Set(total);
    rounded.Store(low + row * low_stride + first_rank + k);
  }
  if (blockIdx.x % part.parts != 0) return;
  for (int column = adapters * rank + k; column < low_columns; column += 16) low[row * low_stride + column].bits = 0;
}

// dx [rows, width] += each adapter's dropped d_low a: blocks of 64 tokens by `columns`, a warp 32 columns and 16 tokens at a
// time.
//
// mma.m16n8k16 multiplies [16 tokens, 16 ranks] by [16 ranks, 8 columns]. Its thread (g, q) has columns 2 q and 2 q + 1 of
// tokens g and g + 8 in the result. Product i of 4 takes for them 8 q + 2 i and the next: so a thread ends with 8
// neighbouring columns of its tokens, and loads as many of a's rows g and g + 8.
#define ADD_TOKENS 64

// The second factors of the four products, from ranks `first` on of one adapter's a.
__device__ __forceinline__ void LoadSecond(const bf16* a, long long a_stride, int first, int rank, int g,
                                           unsigned (&second)[4][2]) {
  uint4 ranks[2];
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    ranks[t] = make_uint4(0, 0, 0, 0);
    if (first + g + 8 * t < rank) ranks[t] = *reinterpret_cast<const uint4*>(a + (first + g + 8 * t) * a_stride);
  }
  __syncwarp();  // what follows needs the whole warp
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    second[i][0] = Transposed(Word(ranks[0], i));
    second[i][1] = Transposed(Word(ranks[1], i));
  }
}

// HELD: ranks are at most 16, and the factors from `a` are kept for all tokens of the block.
template <bool HELD>
__device__ __forceinline__ void AddDropped(const bf16* d_low, const bf16* a, bf16* dx, const DropoutNumbers& dropout,
                                           int rows, int width, int rank, int adapters, int columns,
                                           long long d_low_stride, long long a_stride, long long dx_stride) {
  __shared__ unsigned long long keys[3][ADD_TOKENS];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int first_row = blockIdx.x * ADD_TOKENS, last_row = min(rows, first_row + ADD_TOKENS);
  for (int i = threadIdx.x; i < adapters * ADD_TOKENS; i += blockDim.x) {
    const int token = i % ADD_TOKENS, adapter = i / ADD_TOKENS;
    if (first_row + token < rows) {
      keys[adapter][token] = TokenKey(dropout, SiteOf(dropout, adapter), first_row + token);
    }
  }
  __syncthreads();
  const int begin = blockIdx.y * columns, end = min(width, begin + columns);
#pragma unroll 1
  for (int first = begin + warp * 32; first < end; first += 256) {
    const int column = first + q * 8;
    unsigned second[HELD ? 3 : 1][4][2];
    if constexpr (HELD) {
#pragma unroll
      for (int adapter = 0; adapter < 3; ++adapter) {
        if (adapter < adapters) {
          LoadSecond(a + adapter * rank * a_stride + column, a_stride, 0, rank, g, second[adapter]);
        }
      }
    }
#pragma unroll 1
    for (int tile = first_row; tile < last_row; tile += 16) {
      uint4 old[2];
      float total[2][8];
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        const long long row = tile + g + 8 * t;
        old[t] = make_uint4(0, 0, 0, 0);
        if (row < rows) old[t] = *reinterpret_cast<const uint4*>(dx + row * dx_stride + column);
      }
#pragma unroll
      for (int t = 0; t < 2; ++t) Unpack(old[t], total[t]);
#pragma unroll
      for (int adapter = 0; adapter < 3; ++adapter) {
        if (adapter >= adapters) break;
        float product[4][4] = {};
#pragma unroll 1
        for (int k = 0; k < rank; k += 16) {
          const bf16* const low = d_low + adapter * rank + k;
          unsigned tokens[2][2];
          LoadRanks(low, d_low_stride, tile + g, rows, 2 * q, rank - k, tokens[0]);
          LoadRanks(low, d_low_stride, tile + g + 8, rows, 2 * q, rank - k, tokens[1]);
          unsigned(&factors)[4][2] = second[HELD ? adapter : 0];
          if constexpr (!HELD) LoadSecond(a + adapter * rank * a_stride + column, a_stride, k, rank, g, factors);
          __syncwarp();
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            MultiplyWide(product[i], tokens[0][0], tokens[1][0], tokens[0][1], tokens[1][1], factors[i][0],
                         factors[i][1]);
          }
          if constexpr (HELD) break;
        }
#pragma unroll
        for (int t = 0; t < 2; ++t) {
          uint4 draws = DrawEight(keys[adapter][tile - first_row + g + 8 * t], column);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int kept = static_cast<int>(KeptBits(Word(draws, i), dropout.threshold));
            if ((kept << 16) < 0) total[t][2 * i] += dropout.kept * product[i][2 * t];
            if (kept < 0) total[t][2 * i + 1] += dropout.kept * product[i][2 * t + 1];
          }
        }
      }
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        const long long row = tile + g + 8 * t;
        uint4 sums;
        Pack(total[t], sums);
        if (row < rows) *reinterpret_cast<uint4*>(dx + row * dx_stride + column) = sums;
      }
    }
  }
}

#define ADD_DROPPED_KERNEL(NAME, HELD)                                                                               \
  extern "C" __global__ void __launch_bounds__(256)                                                                  \
      NAME(const bf16* d_low, const bf16* a, bf16* dx, DropoutNumbers dropout, int rows, int width, int rank,        \
           int adapters, int columns, long long d_low_stride, long long a_stride, long long dx_stride) {             \
    AddDropped<HELD>(d_low, a, dx, dropout, rows, width, rank, adapters, columns, d_low_stride, a_stride, dx_stride); \
  }

ADD_DROPPED_KERNEL(add_dropped_held_bf16, true)
ADD_DROPPED_KERNEL(add_dropped_bf16, false)
