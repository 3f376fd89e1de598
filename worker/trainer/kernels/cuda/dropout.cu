// Products of low-rank adapters whose input is dropped (arXiv:2106.09685; model/dropout.h has the formula of the masks).
// A mask is drawn where the tensor cores' factor lies in registers, so that none is ever in memory; the factor
// 1 / (1 - p) is applied to the sums. `rank` is that of one adapter and even; blocks of ranks by 16.

struct DropoutNumbers {  // as the host's
  const unsigned long long* step_key;
  const unsigned long long* ids;  // [rows]
  unsigned long long sites[3];
  unsigned threshold;  // of 2^16
  float kept;
};

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

// Of all draws of one token for an adapter.
__device__ __forceinline__ unsigned long long TokenKey(const DropoutNumbers& dropout, int adapter, long long row) {
  const unsigned long long site =
      adapter == 0 ? dropout.sites[0] : (adapter == 1 ? dropout.sites[1] : dropout.sites[2]);
  return Mix(Mix(Mix(*dropout.step_key + GOLDEN) ^ site) ^ Mix(dropout.ids[row] + GOLDEN));
}

// 16 bits for each of 8 channels from `column`, a multiple of 8, in the order in which bf16 lie in 16 bytes.
__device__ __forceinline__ uint4 DrawEight(unsigned long long key, int column) {
  const unsigned long long counter = key + (static_cast<unsigned long long>(column / 4) + 1) * GOLDEN;
  const unsigned long long low = Mix(counter), high = Mix(counter + GOLDEN);
  return make_uint4(static_cast<unsigned>(low), static_cast<unsigned>(low >> 32), static_cast<unsigned>(high),
                    static_cast<unsigned>(high >> 32));
}
__device__ __forceinline__ unsigned KeptHalves(unsigned pair, unsigned draws, unsigned threshold) {
  const unsigned low = (draws & 0xffffu) < threshold ? 0 : 0xffffu;
  const unsigned high = (draws >> 16) < threshold ? 0 : 0xffff0000u;
  return pair & (low | high);
}
__device__ __forceinline__ uint4 DropEight(uint4 x, unsigned long long key, int column, unsigned threshold) {
  const uint4 draws = DrawEight(key, column);
  return make_uint4(KeptHalves(x.x, draws.x, threshold), KeptHalves(x.y, draws.y, threshold),
                    KeptHalves(x.z, draws.z, threshold), KeptHalves(x.w, draws.w, threshold));
}

// low [rows, low_columns] = drop(x [rows, width]) a^T: blocks of 16 tokens by a part, as in glu_low_rank.cu. The parts of
// the same tokens follow each other and find x in the cache.
extern "C" __global__ void __launch_bounds__(256)
    dropped_low_bf16(const bf16* x, const bf16* a, bf16* low, DropoutNumbers dropout, int rows, int width, int rank,
                     int adapters, int low_columns, long long x_stride, long long a_stride, long long low_stride) {
  __shared__ float sums[LOW_RANK_WARPS][16][17];  // 17: rows in other banks
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const RankPart part(blockIdx.x, adapters, rank);
  const long long tile = blockIdx.x / part.parts * 16LL;
  const int first_rank = part.adapter * rank + part.first;
  unsigned long long keys[2] = {};
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    if (tile + g + 8 * t < rows) keys[t] = TokenKey(dropout, part.adapter, tile + g + 8 * t);
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
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[warp][g + j / 2 * 8][n * 8 + 2 * q + j % 2] = sum[n][j];
  }
  __syncthreads();
  const int token = threadIdx.x / 16, k = threadIdx.x % 16;
  const long long row = tile + token;
  if (row >= rows) return;
  if (k < part.ranks) {
    float total[1] = {0};
#pragma unroll
    for (int w = 0; w < LOW_RANK_WARPS; ++w) total[0] += sums[w][token][k];
    total[0] *= dropout.kept;
    Vec<bf16, 1> rounded;
    rounded.Set(total);
    rounded.Store(low + row * low_stride + first_rank + k);
  }
  if (blockIdx.x % part.parts != 0) return;
  for (int column = adapters * rank + k; column < low_columns; column += 16) low[row * low_stride + column].bits = 0;
}

#define DROPPED_KEYS 512

// `partial` [chunks, parts, 16, width] = the chunk's d_low^T drop(x): blocks of 4 warps, 64 columns and a part by `chunk`
// tokens, of which a warp takes every fourth 8, as in glu_adapters.cu.
extern "C" __global__ void __launch_bounds__(128)
    dropped_gradient_bf16(const bf16* d_low, const bf16* x, float* partial, DropoutNumbers dropout, int rows, int width,
                          int rank, int adapters, int chunk, long long d_low_stride, long long x_stride) {
  __shared__ unsigned long long keys[DROPPED_KEYS];
  __shared__ __align__(16) float sums[16][72];  // column 8 n + i lies at 8 i + n
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const RankPart part(blockIdx.x, adapters, rank);
  const int first_column = blockIdx.x / part.parts * 64, column = first_column + g * 8;
  const int begin = blockIdx.y * chunk, end = min(rows, begin + chunk);
  const bf16* const low = d_low + part.adapter * rank + part.first;
  float sum[8][4] = {};
  for (int stage = begin; stage < end; stage += DROPPED_KEYS) {
    const int stop = min(end, stage + DROPPED_KEYS);
    __syncthreads();  // some may still read the last stage's
    for (int i = threadIdx.x; stage + i < stop; i += blockDim.x) keys[i] = TokenKey(dropout, part.adapter, stage + i);
    __syncthreads();
#pragma unroll 1
    for (int tile = stage + warp * 8; tile < stop; tile += 32) {
      uint4 tokens[2];
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        const int row = tile + 2 * q + t;
        tokens[t] = make_uint4(0, 0, 0, 0);
        if (row < stop) tokens[t] = *reinterpret_cast<const uint4*>(x + static_cast<long long>(row) * x_stride + column);
      }
      unsigned ranks[2];
      LoadRanks(low, d_low_stride, tile + g, stop, 2 * q, part.ranks, ranks);
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        const int row = tile + 2 * q + t;
        if (row < stop) tokens[t] = DropEight(tokens[t], keys[row - stage], column, dropout.threshold);
      }
      __syncwarp();  // what follows needs the whole warp
      ranks[0] = Transposed(ranks[0]);
      ranks[1] = Transposed(ranks[1]);
#pragma unroll
      for (int w = 0; w < 4; ++w) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {  // both tokens' low or high halves side by side
          Multiply(sum[2 * w + c], ranks,
                   __byte_perm(Word(tokens[0], w), Word(tokens[1], w), c == 0 ? 0x5410 : 0x7632));
        }
      }
    }
  }
  // The warps one after the other, so that the order is fixed.
  for (int turn = 0; turn < 4; ++turn) {
    if (warp == turn) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
          float2& place = *reinterpret_cast<float2*>(&sums[g + j * 4][i * 8 + 2 * q]);
          const float2 before = turn == 0 ? make_float2(0, 0) : place;
          place = make_float2(before.x + sum[i][j], before.y + sum[i][j + 1]);
        }
      }
    }
    __syncthreads();
  }
  const long long place = static_cast<long long>(blockIdx.y) * part.parts + blockIdx.x % part.parts;
  for (int i = threadIdx.x; i < 16 * 64; i += blockDim.x) {
    const int k = i / 64, j = i % 64;
    if (k < part.ranks) partial[(place * 16 + k) * width + first_column + j] = sums[k][j % 8 * 8 + j / 8];
  }
}

// [width, adapters * rank] threads: the chunks' sums to d_a [adapters * rank, width].
extern "C" __global__ void dropped_gradient_sums(const float* partial, float* d_a, int chunks, int width, int rank,
                                                 int adapters, float kept, long long d_a_stride) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= width) return;
  const int tiles = (rank + 15) / 16, k = blockIdx.y % rank;
  const int part = blockIdx.y / rank * tiles + k / 16;
  float sum = 0;
#pragma unroll 4
  for (int chunk = 0; chunk < chunks; ++chunk) {
    sum += partial[((static_cast<long long>(chunk) * adapters * tiles + part) * 16 + k % 16) * width + j];
  }
  d_a[blockIdx.y * d_a_stride + j] = kept * sum;
}

// dx [rows, width] += each adapter's dropped d_low a: blocks of 16 tokens by `columns`, a warp 32 of them at a time.
//
// mma.m16n8k16 multiplies [16 tokens, 16 ranks] by [16 ranks, 8 columns]. Its thread (g, q) has columns 2 q and 2 q + 1 of
// tokens g and g + 8 in the result. Product i of 4 takes for them 8 q + 2 i and the next: so a thread ends with 8
// neighbouring columns of its tokens, and loads as many of a's rows g and g + 8.
extern "C" __global__ void __launch_bounds__(256)
    add_dropped_bf16(const bf16* d_low, const bf16* a, bf16* dx, DropoutNumbers dropout, int rows, int width, int rank,
                     int adapters, int columns, long long d_low_stride, long long a_stride, long long dx_stride) {
  __shared__ unsigned long long keys[3][16];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  const int tile = blockIdx.x * 16;
  if (threadIdx.x < 16 * adapters) {
    const int token = threadIdx.x % 16, adapter = threadIdx.x / 16;
    keys[adapter][token] = tile + token < rows ? TokenKey(dropout, adapter, tile + token) : 0;
  }
  __syncthreads();
  const int begin = blockIdx.y * columns, end = min(width, begin + columns);
  for (int first = begin + warp * 32; first < end; first += 256) {
    const int column = first + q * 8;
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
#pragma unroll 1
    for (int adapter = 0; adapter < adapters; ++adapter) {
      float product[4][4] = {};
#pragma unroll 1
      for (int k = 0; k < rank; k += 16) {
        const bf16* const low = d_low + adapter * rank + k;
        unsigned tokens[2][2];
        LoadRanks(low, d_low_stride, tile + g, rows, 2 * q, rank - k, tokens[0]);
        LoadRanks(low, d_low_stride, tile + g + 8, rows, 2 * q, rank - k, tokens[1]);
        uint4 ranks[2];
#pragma unroll
        for (int t = 0; t < 2; ++t) {
          const int at = k + g + 8 * t;
          ranks[t] = make_uint4(0, 0, 0, 0);
          if (at < rank) ranks[t] = *reinterpret_cast<const uint4*>(a + (adapter * rank + at) * a_stride + column);
        }
        __syncwarp();  // what follows needs the whole warp
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          MultiplyWide(product[i], tokens[0][0], tokens[1][0], tokens[0][1], tokens[1][1],
                       Transposed(Word(ranks[0], i)), Transposed(Word(ranks[1], i)));
        }
      }
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        uint4 draws = DrawEight(keys[adapter][g + 8 * t], column);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const unsigned pair = Word(draws, i);
          if ((pair & 0xffffu) >= dropout.threshold) total[t][2 * i] += dropout.kept * product[i][2 * t];
          if ((pair >> 16) >= dropout.threshold) total[t][2 * i + 1] += dropout.kept * product[i][2 * t + 1];
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
