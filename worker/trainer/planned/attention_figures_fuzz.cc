#include <cstddef>
#include <cstdint>

#include "common/status/check.h"
#include "worker/trainer/planned/attention_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace studio::planned;
  const AttentionKey key = H200Key();
  const auto figures = ParseFigures({reinterpret_cast<const char*>(data), size}, key);
  if (!figures.ok()) return 0;
  // What was read is written and read the same.
  const auto again = ParseFigures(FiguresText(key, *figures), key);
  STUDIO_CHECK(again.ok() && *again == *figures) << again.status();
  return 0;
}
