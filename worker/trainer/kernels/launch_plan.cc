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

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How many accesses a thread of the row kernels may make: those for which cuda/rms_norm.cu has kernels.
std::vector<int64_t> AccessesPerThread(at::ScalarType type, int access) {
  if (access == 1) return {8};
  return type == at::kBFloat16 ? std::vector<int64_t>{1, 2} : std::vector<int64_t>{1, 4};
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

std::optional<Launch> RowLaunch(absl::string_view kernel, at::ScalarType type, int access, int64_t rows,
                                int64_t width) {
  if (rows > kMaxGrid) return std::nullopt;
  for (const int64_t per_thread : AccessesPerThread(type, access)) {
    const int64_t threads = DivideUp(DivideUp(width, access * per_thread), kWarp) * kWarp;
    if (threads > kMaxBlock) continue;
    return Launch{absl::StrCat(kernel, "_", TypeName(type), "_v", access, "_p", per_thread),
                  static_cast<unsigned>(rows), static_cast<unsigned>(threads)};
  }
  return std::nullopt;
}

Launch CrossEntropyLaunch(at::ScalarType type, int64_t rows, int64_t vocab, const Layout& logits,
                          int64_t shared_limit_bytes) {
  constexpr int64_t kBytes = 16;     // of an access
  constexpr int64_t kKept = 4;       // accesses of a thread in registers: cuda/cross_entropy.cu
  constexpr int64_t kOwn = 2 << 10;  // what the kernel and the driver use themselves
  const int access = static_cast<int>(kBytes / logits.element_bytes);
  const int64_t per_thread = DivideUp(DivideUp(vocab, access), kMaxBlock);
  const int64_t shared = std::max<int64_t>(per_thread - kKept, 0) * kMaxBlock * kBytes;
  const bool kept = WidestAccess({access, 1}, {vocab}, {logits}) == access && shared + kOwn <= shared_limit_bytes;
  return Launch{.kernel = absl::StrCat(kept ? "cross_entropy_kept_" : "cross_entropy_", TypeName(type)),
                .grid = static_cast<unsigned>(rows),
                .block = static_cast<unsigned>(kMaxBlock),
                .shared_bytes = kept ? static_cast<unsigned>(shared) : 0};
}

std::optional<AdapterLaunch> PlanGluAdapters(at::ScalarType type, int64_t rows, int64_t width, int64_t rank,
                                             const std::vector<Layout>& wide, const std::vector<Layout>& low) {
  constexpr int64_t kColumns = 64, kStep = 32, kFewest = 128, kMost = 1024;
  if (type != at::kBFloat16 || width % kColumns != 0 || rank > 16 || rows > kMaxGrid) return std::nullopt;
  if (WidestAccess({8, 1}, {width}, wide) != 8 || WidestAccess({2, 1}, {rank}, low) != 2) return std::nullopt;
  AdapterLaunch launch;
  launch.column_blocks = static_cast<unsigned>(width / kColumns);
  // Long chunks write fewer sums, many blocks fill a device evenly: about 2000 of them are enough.
  launch.chunk_rows = std::clamp(rows * launch.column_blocks / 2000 / kStep * kStep, kFewest, kMost);
  launch.chunks = DivideUp(rows, launch.chunk_rows);
  if (launch.chunks > 65535) return std::nullopt;  // the grid's second side
  return launch;
}

}  // namespace studio::kernels
