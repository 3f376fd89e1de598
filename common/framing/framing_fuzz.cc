// Whatever bytes a peer sends, in whatever pieces: the decoder answers, and agrees with itself.
#include <cstdint>
#include <string_view>

#include "common/framing/framing.h"
#include "common/status/check.h"
#include "proto/studio/v1/trainer.pb.h"

namespace {

// Number of messages, or -1 where the stream is refused.
int Decode(std::string_view bytes, size_t piece) {
  studio::FrameDecoder decoder;
  studio::v1::TrainerUp up;
  int messages = 0;
  while (!bytes.empty()) {
    decoder.Append(bytes.substr(0, piece));
    bytes.remove_prefix(std::min(piece, bytes.size()));
    while (true) {
      const absl::StatusOr<bool> found = decoder.Next(up);
      if (!found.ok()) return -1;
      if (!*found) break;
      ++messages;
    }
  }
  return messages;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  STUDIO_CHECK(Decode(bytes, 1) == Decode(bytes, size + 1)) << "the answer depends on how the bytes arrive";
  return 0;
}
