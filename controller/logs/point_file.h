// The format of a file of metric points: records one after another, each
//
//   length, 4 bytes, little-endian │ CRC-32 of the message, 4 bytes, little-endian │ a serialised studio.v1.Progress
//
// A death in the middle of a write leaves a torn record at the end: reading stops before it, and the next append
// cuts it off. Pure functions over bytes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "proto/studio/v1/state.pb.h"

namespace studio::controller {

struct PointFile {
  std::vector<v1::Progress> points;
  // Bytes up to the end of the last whole record.
  size_t valid_bytes = 0;
};

std::string EncodePoint(const v1::Progress& point);
PointFile ParsePoints(std::string_view bytes);

// Points of an attempt only go forward: by step, and by rows while it prepares. Resent ones do not.
bool IsAfter(const v1::Progress& point, const v1::Progress& last);

}  // namespace studio::controller
