// Whatever lies in a point file, reading it ends, and what it calls valid reads the same again.
#include <cstdint>

#include "common/status/check.h"
#include "controller/logs/point_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const studio::controller::PointFile file = studio::controller::ParsePoints(bytes);
  STUDIO_CHECK(file.valid_bytes <= size);
  const studio::controller::PointFile again = studio::controller::ParsePoints(bytes.substr(0, file.valid_bytes));
  STUDIO_CHECK(again.points.size() == file.points.size());
  STUDIO_CHECK(again.valid_bytes == file.valid_bytes);
  return 0;
}
