// Which kernel of cuda/*.cu an operation runs, and with how many threads. Pure.
//
//   const int access = WidestAccess({8, 1}, {width}, {LayoutOf(gate_up), LayoutOf(out)});
//   std::optional<Launch> launch = FlatLaunch("silu_forward", at::kBFloat16, access, rows * width / access);
//
// Nothing where no kernel is made for such a shape.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace studio::kernels {

inline int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Launch {
  std::string kernel;
  unsigned grid = 1;
  unsigned block = 1;
  unsigned grid_y = 1;
  unsigned block_y = 1;
  unsigned shared_bytes = 0;  // beyond what the kernel declares
};

// What decides how wide a tensor can be accessed.
struct Layout {
  uint64_t address = 0;
  int64_t element_bytes = 0;
  std::vector<int64_t> strides;  // in elements, of all dimensions but the last that have more than one entry
};
Layout LayoutOf(const at::Tensor& tensor);

// The widest of `accesses` (elements, falling, 1 the last) of which every extent, stride and address is a multiple.
int WidestAccess(std::initializer_list<int> accesses, std::initializer_list<int64_t> extents,
                 const std::vector<Layout>& layouts);

// "bf16" or "f32".
absl::string_view TypeName(at::ScalarType type);

// `items` threads, counted flat.
std::optional<Launch> FlatLaunch(absl::string_view kernel, at::ScalarType type, int access, int64_t items);

// One block a row, the row in the block's registers: with the fewest accesses a thread that leave it no more than
// `threads` of them, else with as many threads as a block can have.
std::optional<Launch> RowLaunch(absl::string_view kernel, at::ScalarType type, int access, int64_t rows, int64_t width,
                                int64_t threads);

// What a device offers to a block and to all of them.
struct DeviceLimits {
  int multiprocessors = 0;
  int64_t shared_bytes_per_block = 0;  // when asked for
  int64_t cache_bytes = 0;             // of the second level
};

// One block a row. Two of a multiprocessor's rows are under way at a time: where all of them fit into the cache, the
// second pass reads them from there; longer ones stay on the multiprocessor, where memory and layout allow.
Launch CrossEntropyLaunch(at::ScalarType type, int64_t rows, int64_t vocab, const Layout& logits,
                          const DeviceLimits& device);

struct AdapterLaunch {
  unsigned column_blocks = 0;
  int64_t chunk_rows = 0;  // a multiple of 32
  int64_t chunks = 0;
};
// glu_adapters.cu's: bf16, columns by 64, an even rank of at most 16. `wide`: layouts read by 16 bytes; `low`: by 4.
std::optional<AdapterLaunch> PlanGluAdapters(at::ScalarType type, int64_t rows, int64_t width, int64_t rank,
                                             int multiprocessors, const std::vector<Layout>& wide,
                                             const std::vector<Layout>& low);

// adapter_gradients.cu's, of `blocks` column blocks: one chunk where tokens are few, which needs no second launch.
AdapterLaunch PlanAdapterGradients(unsigned blocks, int64_t rows, int multiprocessors);
// Of dropped_products.cu's pass over dx: into how many parts of a multiple of 256 columns blocks of 64 tokens share
// them, so that few tokens fill the device too.
int64_t ColumnsOfABlock(int64_t rows, int64_t width, int multiprocessors);

}  // namespace studio::kernels
