#include <cstddef>
#include <cstdint>
#include <string>

#include "common/status/check.h"
#include "worker/trainer/checkpoint/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<studio::v1::CheckpointManifest> manifest = studio::ParseManifest(text, "fuzz");
  if (!manifest.ok()) return 0;
  for (const studio::v1::CheckpointShard& shard : manifest->shards()) {
    STUDIO_CHECK(shard.file().path().find('/') == std::string::npos) << shard.file().path();
  }
  return 0;
}
