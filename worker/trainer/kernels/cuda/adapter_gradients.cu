// The gradients of low-rank adapters (arXiv:2106.09685): grad += scale * narrow [tokens, ranks]^T wide [tokens, columns], or
// its transpose, for all factors of a group of layers at once; what dropout takes from `wide` is drawn again in registers.
// Blocks work on 64 columns and up to 16 ranks of one problem.

struct AdapterProblem {  // as the host's
  const bf16 *narrow, *wide;
  float* grad;
  long long narrow_stride, wide_stride, grad_stride;
  unsigned long long site;
  float scale;
  int ranks, blocks;      // at most 16; of 64 columns
  int transposed, drops;  // grad is [columns, ranks]; `site` drops
};
#define MOST_PROBLEMS 32
struct AdapterProblems {  // as the host's
  AdapterProblem each[MOST_PROBLEMS];
};

// Which problem a block works on: `block` becomes its place among that problem's.
__device__ __forceinline__ int ProblemOf(const AdapterProblems& problems, int& block) {
  int which = 0;
  while (block >= problems.each[which].blocks) block -= problems.each[which++].blocks;
  return which;
}

__device__ __forceinline__ void AddToGrad(const AdapterProblem& problem, int block, int k, int j, float sum) {
  const long long column = block * 64 + j;
  float* const place = problem.grad + (problem.transposed ? column * problem.grad_stride + k
                                                          : k * problem.grad_stride + column);
  *place += problem.scale * sum;
}

#define KEYS 512

// WARPS warps; each takes 8 tokens at a time of the block's `chunk`. Where `partial` is null there is one chunk and the sums
// go to the gradients, else to partial [chunks, blocks, 16, 64]. As in glu_adapters.cu a thread holds two tokens of 8
// columns, and product i of 8 takes columns 8 n + i.
template <int WARPS>
__device__ __forceinline__ void AdapterGradients(const AdapterProblems& problems, DropoutNumbers dropout,
                                                 float* partial, int rows, int chunk) {
  __shared__ unsigned long long keys[KEYS];
  __shared__ __align__(16) float sums[16][72];  // column 8 n + i lies at 8 i + n
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
  int block = blockIdx.x;
  const AdapterProblem& problem = problems.each[ProblemOf(problems, block)];
  const int column = block * 64 + g * 8, ranks = problem.ranks;
  const bf16* const wide = problem.wide + column;
  const bool drops = problem.drops;
  const int begin = blockIdx.y * chunk, end = min(rows, begin + chunk);
  float sum[8][4] = {};
  for (int stage = begin; stage < end; stage += KEYS) {
    const int stop = min(end, stage + KEYS);
    if (drops) {
      __syncthreads();  // some may still read the last stage's
      for (int i = threadIdx.x; stage + i < stop; i += blockDim.x) {
        keys[i] = TokenKey(dropout, problem.site, stage + i);
      }
      __syncthreads();
    }
    // The next tile is under way while one is multiplied.
    uint4 next[2];
    unsigned next_low[2];
    const auto load = [&](int tile) {
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        const int row = tile + 2 * q + t;
        next[t] = make_uint4(0, 0, 0, 0);
        if (row < stop) next[t] = *reinterpret_cast<const uint4*>(wide + row * problem.wide_stride);
      }
      LoadRanks(problem.narrow, problem.narrow_stride, tile + g, stop, 2 * q, ranks, next_low);
    };
    load(stage + warp * 8);
#pragma unroll 1
    for (int tile = stage + warp * 8; tile < stop; tile += WARPS * 8) {
      uint4 tokens[2] = {next[0], next[1]};
      unsigned low[2] = {next_low[0], next_low[1]};
      load(tile + WARPS * 8);
      if (drops) {
#pragma unroll
        for (int t = 0; t < 2; ++t) {
          const int row = tile + 2 * q + t;
          if (row < stop) tokens[t] = DropEight(tokens[t], keys[row - stage], column, dropout.threshold);
        }
      }
      __syncwarp();  // what follows needs the whole warp
      low[0] = Transposed(low[0]);
      low[1] = Transposed(low[1]);
#pragma unroll
      for (int w = 0; w < 4; ++w) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {  // both tokens' low or high halves side by side
          Multiply(sum[2 * w + c], low,
                   __byte_perm(Word(tokens[0], w), Word(tokens[1], w), c == 0 ? 0x5410 : 0x7632));
        }
      }
    }
  }
  // The warps one after the other, so that the order is fixed.
  for (int turn = 0; turn < WARPS; ++turn) {
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
  for (int i = threadIdx.x; i < 16 * 64; i += blockDim.x) {
    if (partial != nullptr) {
      const int k = i / 64, j = i % 64;
      partial[(static_cast<long long>(blockIdx.y) * gridDim.x + blockIdx.x) * 1024 + i] = sums[k][j % 8 * 8 + j / 8];
    } else {  // neighbouring threads on neighbouring elements
      const int k = problem.transposed ? i % 16 : i / 64, j = problem.transposed ? i / 16 : i % 64;
      if (k < ranks) AddToGrad(problem, block, k, j, sums[k][j % 8 * 8 + j / 8]);
    }
  }
}

extern "C" __global__ void __launch_bounds__(128)
    adapter_gradients_w4(const __grid_constant__ AdapterProblems problems, DropoutNumbers dropout, float* partial,
                         int rows, int chunk) {
  AdapterGradients<4>(problems, dropout, partial, rows, chunk);
}
extern "C" __global__ void __launch_bounds__(256, 3)
    adapter_gradients_w8(const __grid_constant__ AdapterProblems problems, DropoutNumbers dropout, float* partial,
                          int rows, int chunk) {
  AdapterGradients<8>(problems, dropout, partial, rows, chunk);
}

// A block for each of theirs, a thread for each sum: the chunks' sums, added to the gradients.
extern "C" __global__ void adapter_gradient_sums(const __grid_constant__ AdapterProblems problems, const float* partial,
                                                 int chunks) {
  int block = blockIdx.x;
  const AdapterProblem& problem = problems.each[ProblemOf(problems, block)];
  for (int i = threadIdx.x; i < 16 * 64; i += blockDim.x) {
    const int k = problem.transposed ? i % 16 : i / 64, j = problem.transposed ? i / 16 : i % 64;
    if (k >= problem.ranks) continue;
    float sum = 0;
#pragma unroll 4
    for (int chunk = 0; chunk < chunks; ++chunk) {
      sum += partial[(static_cast<long long>(chunk) * gridDim.x + blockIdx.x) * 1024 + k * 64 + j];
    }
    AddToGrad(problem, block, k, j, sum);
  }
}
