#include "controller/logs/point_file.h"

#include <array>
#include <cstdint>
#include <tuple>

namespace studio::controller {
namespace {

constexpr size_t kHeader = 8;

std::array<uint32_t, 256> CrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0xedb88320u : 0);
    table[i] = value;
  }
  return table;
}

// CRC-32 as in zlib and PNG.
uint32_t Crc32(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = CrcTable();
  uint32_t crc = ~0u;
  for (const unsigned char byte : bytes) crc = (crc >> 8) ^ table[(crc ^ byte) & 0xff];
  return ~crc;
}

void Put32(uint32_t value, std::string& out) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(value >> shift & 0xff));
}

uint32_t Get32(std::string_view bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

}  // namespace

std::string EncodePoint(const v1::Progress& point) {
  const std::string message = point.SerializeAsString();
  std::string out;
  Put32(message.size(), out);
  Put32(Crc32(message), out);
  return out + message;
}

PointFile ParsePoints(std::string_view bytes) {
  PointFile file;
  while (bytes.size() - file.valid_bytes >= kHeader) {
    const std::string_view record = bytes.substr(file.valid_bytes);
    const uint32_t length = Get32(record);
    // Nothing writes an empty point: zeros are what a lost page looks like.
    if (length == 0 || length > record.size() - kHeader) break;
    const std::string_view message = record.substr(kHeader, length);
    v1::Progress point;
    if (Get32(record.substr(4)) != Crc32(message) || !point.ParseFromArray(message.data(), message.size())) break;
    file.points.push_back(std::move(point));
    file.valid_bytes += kHeader + length;
  }
  return file;
}

bool IsAfter(const v1::Progress& point, const v1::Progress& last) {
  return std::tuple(point.step(), point.prepared_rows()) > std::tuple(last.step(), last.prepared_rows());
}

}  // namespace studio::controller
