#include <cstddef>
#include <cstdint>

#include "common/status/check.h"
#include "worker/trainer/planned/attention_figures.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace studio::planned;
  const AttentionKey key{.device = "NVIDIA H200",
                         .compute_capability = "9.0",
                         .libtorch = "2.11.0",
                         .dtype = "BFloat16",
                         .heads = 32,
                         .kv_heads = 8,
                         .head_dim = 64,
                         .longest = 2048,
                         .tokens = 16384,
                         .one_length = true};
  const auto figures = ParseFigures({reinterpret_cast<const char*>(data), size}, key);
  if (!figures.ok()) return 0;
  // What was read is written and read the same.
  const auto again = ParseFigures(FiguresText(key, *figures), key);
  STUDIO_CHECK(again.ok() && *again == *figures) << again.status();
  return 0;
}
