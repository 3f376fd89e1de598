#include "worker/trainer/kernels/launch_plan.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace studio::kernels {
namespace {

constexpr int64_t kMaxGrid = std::numeric_limits<int32_t>::max();
constexpr int64_t kWarp = 32;
constexpr int64_t kFlatBlock = 256;
constexpr int64_t kMaxBlock = 1024;

// The row kernels there are (cuda/rms_norm.cu): accesses a thread, and the threads that its registers allow a block.
struct RowKernel {
  int64_t accesses, most_threads;
};
std::vector<RowKernel> RowKernels(at::ScalarType type, int access) {
  if (access == 1) return {{8, kMaxBlock}};
  if (type == at::kBFloat16) return {{1, kMaxBlock}, {2, kMaxBlock}, {4, 512}};
  return {{1, kMaxBlock}, {4, kMaxBlock}};
}

// Rows in chunks, each of which `column_blocks` blocks share; `at_once` blocks fill the device.
AdapterLaunch PlanChunks(unsigned column_blocks, int64_t rows, int64_t at_once) {
  constexpr int64_t kStep = 32;
  constexpr int64_t kSmallest = 128;   // rows of a chunk
  constexpr int64_t kOverhead = 64;    // rows that cost as much as a chunk's sums
  constexpr int64_t kMostChunks = 64;  // bounds the sums' memory
  AdapterLaunch best;
  best.column_blocks = column_blocks;
  // All blocks take about equally long, so what counts is how often the device is filled, and how well the last time.
  // From many to few: blocks that end at different times fill each other's gaps, so fewer must win a fiftieth.
  double least = std::numeric_limits<double>::max();
  for (int64_t wanted = kMostChunks; wanted >= 1; --wanted) {
    const int64_t chunk_rows = std::max(DivideUp(DivideUp(rows, wanted), kStep) * kStep, kSmallest);
    const int64_t chunks = DivideUp(rows, chunk_rows);
    const int64_t waves = DivideUp(best.column_blocks * chunks, at_once);
    const auto cost = static_cast<double>(waves * (chunk_rows + kOverhead));
    if (cost > 0.98 * least) continue;
    least = cost;
    best.chunk_rows = chunk_rows;
    best.chunks = chunks;
  }
  return best;
}

}  // namespace

Layout LayoutOf(const at::Tensor& tensor) {
  Layout layout{reinterpret_cast<uint64_t>(tensor.data_ptr()), static_cast<int64_t>(tensor.element_size()), {}};
  for (int64_t d = 0; d + 1 < tensor.dim(); ++d) {
    if (tensor.size(d) > 1) layout.strides.push_back(tensor.stride(d));
  }
  return layout;
}

int WidestAccess(std::initializer_list<int> accesses, std::initializer_list<int64_t> extents,
                 const std::vector<Layout>& layouts) {
  for (const int access : accesses) {
    const auto fits = [&](int64_t x) { return x % access == 0; };
    if (std::all_of(extents.begin(), extents.end(), fits) &&
        std::all_of(layouts.begin(), layouts.end(), [&](const Layout& layout) {
          return layout.address % (access * layout.element_bytes) == 0 &&
                 std::all_of(layout.strides.begin(), layout.strides.end(), fits);
        })) {
      return access;
    }
  }
  return 1;
}

absl::string_view TypeName(at::ScalarType type) { return type == at::kBFloat16 ? "bf16" : "f32"; }

std::optional<Launch> FlatLaunch(absl::string_view kernel, at::ScalarType type, int access, int64_t items) {
  if (items > kMaxGrid) return std::nullopt;  // kernels count in 32 bits
  return Launch{absl::StrCat(kernel, "_", TypeName(type), "_v", access),
                static_cast<unsigned>(DivideUp(items, kFlatBlock)), static_cast<unsigned>(kFlatBlock)};
}

std::optional<Launch> RowLaunch(absl::string_view kernel, at::ScalarType type, int access, int64_t rows, int64_t width,
                                int64_t threads) {
  if (rows > kMaxGrid) return std::nullopt;
  const std::vector<RowKernel> kernels = RowKernels(type, access);
  for (const bool strict : {true, false}) {
    for (const auto& [accesses, most_threads] : kernels) {
      const int64_t block = DivideUp(DivideUp(width, access * accesses), kWarp) * kWarp;
      if (block > most_threads || (strict && block > threads)) continue;
      return Launch{absl::StrCat(kernel, "_", TypeName(type), "_v", access, "_p", accesses),
                    static_cast<unsigned>(rows), static_cast<unsigned>(block)};
    }
  }
  return std::nullopt;
}

Launch CrossEntropyLaunch(at::ScalarType type, int64_t rows, int64_t vocab, const Layout& logits,
                          const DeviceLimits& device) {
  constexpr int64_t kBytes = 16;     // of an access
  constexpr int64_t kKept = 4;       // accesses of a thread in registers: cuda/cross_entropy.cu
  constexpr int64_t kOwn = 2 << 10;  // what the kernel and the driver use themselves
  const int access = static_cast<int>(kBytes / logits.element_bytes);
  const int64_t per_thread = DivideUp(DivideUp(vocab, access), kMaxBlock);
  const int64_t shared = std::max<int64_t>(per_thread - kKept, 0) * kMaxBlock * kBytes;
  const bool cached = int64_t{2} * device.multiprocessors * vocab * logits.element_bytes <= device.cache_bytes;
  const bool fits = shared + kOwn <= device.shared_bytes_per_block;
  const bool kept = !cached && fits && WidestAccess({access, 1}, {vocab}, {logits}) == access;
  return Launch{.kernel = absl::StrCat(kept ? "cross_entropy_kept_" : "cross_entropy_", TypeName(type)),
                .grid = static_cast<unsigned>(rows),
                .block = static_cast<unsigned>(kMaxBlock),
                .shared_bytes = kept ? static_cast<unsigned>(shared) : 0};
}

std::optional<AdapterLaunch> PlanGluAdapters(at::ScalarType type, int64_t rows, int64_t width, int64_t rank,
                                             int multiprocessors, const std::vector<Layout>& wide,
                                             const std::vector<Layout>& low) {
  constexpr int64_t kColumns = 64;
  constexpr int64_t kBlocks = 3;  // that a multiprocessor's registers hold
  if (type != at::kBFloat16 || width % kColumns != 0 || rank > 16 || rows > kMaxGrid) return std::nullopt;
  if (WidestAccess({8, 1}, {width}, wide) != 8 || WidestAccess({2, 1}, {rank}, low) != 2) return std::nullopt;
  return PlanChunks(static_cast<unsigned>(width / kColumns), rows, kBlocks * multiprocessors);
}

AdapterLaunch PlanAdapterGradients(unsigned blocks, int64_t rows, int multiprocessors) {
  constexpr int64_t kFew = 1024;
  constexpr int64_t kBlocks = 5;  // that a multiprocessor's registers hold
  if (rows <= kFew) return {blocks, rows, 1};
  return PlanChunks(blocks, rows, kBlocks * multiprocessors);
}

int64_t ColumnsOfABlock(int64_t rows, int64_t width, int multiprocessors) {
  constexpr int64_t kStep = 256, kTokens = 64;
  constexpr int64_t kBlocks = 4;  // of a multiprocessor at a time
  const int64_t steps = DivideUp(width, kStep);
  const int64_t splits = std::clamp<int64_t>(kBlocks * multiprocessors / DivideUp(rows, kTokens), 1, steps);
  return DivideUp(steps, splits) * kStep;
}

}  // namespace studio::kernels
