// What the fuzz targets of the row readers share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "common/job/utf8.h"
#include "common/status/check.h"
#include "worker/data/conversation.h"
#include "worker/data/row_reader.h"

namespace studio {

inline void FuzzRows(std::unique_ptr<RowReader> (*make)(std::unique_ptr<TextInput>), const uint8_t* data, size_t size) {
  auto reader = make(TextInput::FromString(std::string(reinterpret_cast<const char*>(data), size), "fuzz"));
  RowFormat format{v1::Dataset()};
  std::set<std::string> seen;
  bool first = true;
  for (Row row;;) {
    const absl::StatusOr<bool> more = reader->Next(&row);
    if (!more.ok()) {
      STUDIO_CHECK(absl::IsInvalidArgument(more.status())) << more.status();
      return;
    }
    if (!*more) return;
    STUDIO_CHECK(row.fields.is_object()) << row.where;
    STUDIO_CHECK(!FirstNonUtf8(Dump(row.fields)).has_value()) << row.where;
    if (std::exchange(first, false)) STUDIO_CHECK(format.Begin(row).ok()) << row.where;
    const auto talk = format.Parse(row, &seen);
    if (talk.ok() && talk->has_value())
      STUDIO_CHECK((*talk)->answers.back() + 1 == (*talk)->messages.size()) << row.where;
  }
}

}  // namespace studio
