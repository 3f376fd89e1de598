// A header of any bytes is refused or read; what is read lies inside the file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "common/safetensors/format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto header = studio::safetensors::ParseHeader(bytes, size, "fuzz");
  if (!header.ok()) return 0;
  uint64_t place = 0;
  for (const auto& tensor : header->tensors) {
    if (tensor.begin < place || tensor.end < tensor.begin || tensor.end > size) abort();
    if (static_cast<uint64_t>(tensor.Elements() * BytesPerElement(tensor.dtype)) != tensor.bytes()) abort();
    place = tensor.end;
  }
  return 0;
}
