#include "common/job/utf8.h"

#include <cstdint>
#include <cstring>

namespace studio {
namespace {

// Bytes of the character at `p`, 0 where it is not one. The table is Unicode's 3-7.
size_t CharacterBytes(const unsigned char* p, size_t left) {
  const unsigned char lead = p[0];
  if (lead < 0x80) return 1;
  size_t bytes = lead >= 0xC2 && lead <= 0xDF   ? 2
                 : lead >= 0xE0 && lead <= 0xEF ? 3
                 : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                : 0;
  if (bytes == 0 || bytes > left) return 0;
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;   // no overlong forms
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;  // no surrogates; up to U+10FFFF
  if (p[1] < low || p[1] > high) return 0;
  for (size_t i = 2; i < bytes; ++i) {
    if ((p[i] & 0xC0) != 0x80) return 0;
  }
  return bytes;
}

}  // namespace

std::optional<size_t> FirstNonUtf8(absl::string_view text) {
  const unsigned char* data = reinterpret_cast<const unsigned char*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    uint64_t word;
    if (i + sizeof(word) <= text.size()) {  // most text is ASCII: eight bytes at a time
      std::memcpy(&word, data + i, sizeof(word));
      if ((word & 0x8080808080808080u) == 0) {
        i += sizeof(word);
        continue;
      }
    }
    const size_t bytes = CharacterBytes(data + i, text.size() - i);
    if (bytes == 0) return i;
    i += bytes;
  }
  return std::nullopt;
}

}  // namespace studio
