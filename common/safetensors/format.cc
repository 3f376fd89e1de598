#include "common/safetensors/format.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status/macros.h"

namespace studio::safetensors {
namespace {

using Json = nlohmann::json;

// Debian's Abseil is built for C++14: its string_view is not the standard's.
absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

struct DtypeRow {
  Dtype dtype;
  std::string_view name;
  int64_t bytes;
};
constexpr std::array<DtypeRow, 15> kDtypes = {{{Dtype::kBool, "BOOL", 1},
                                               {Dtype::kU8, "U8", 1},
                                               {Dtype::kI8, "I8", 1},
                                               {Dtype::kF8E5M2, "F8_E5M2", 1},
                                               {Dtype::kF8E4M3, "F8_E4M3", 1},
                                               {Dtype::kU16, "U16", 2},
                                               {Dtype::kI16, "I16", 2},
                                               {Dtype::kF16, "F16", 2},
                                               {Dtype::kBF16, "BF16", 2},
                                               {Dtype::kU32, "U32", 4},
                                               {Dtype::kI32, "I32", 4},
                                               {Dtype::kF32, "F32", 4},
                                               {Dtype::kU64, "U64", 8},
                                               {Dtype::kI64, "I64", 8},
                                               {Dtype::kF64, "F64", 8}}};

std::optional<Dtype> DtypeNamed(std::string_view name) {
  for (const DtypeRow& row : kDtypes) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

// A tensor's name comes from the file: short enough, and printable, for a message.
std::string Shown(const std::string& name) {
  std::string shown = name.substr(0, 200);
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20) c = '?';
  }
  return absl::StrCat("'", shown, name.size() > 200 ? "…" : "", "'");
}

// False where the product passes int64.
bool ByteCount(const std::vector<int64_t>& shape, Dtype dtype, uint64_t& bytes) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  bytes = static_cast<uint64_t>(BytesPerElement(dtype));
  for (const int64_t size : shape) {
    if (size == 0) {  // whatever the other sizes are
      bytes = 0;
      return true;
    }
  }
  for (const int64_t size : shape) {
    if (bytes > kMax / static_cast<uint64_t>(size)) return false;
    bytes *= static_cast<uint64_t>(size);
  }
  return true;
}

absl::StatusOr<uint64_t> Unsigned(const Json& value, std::string_view what) {
  if (!value.is_number_unsigned()) {
    return absl::InvalidArgumentError(absl::StrCat(View(what), " must be a whole number of at least 0"));
  }
  return value.get<uint64_t>();
}

absl::StatusOr<TensorInfo> ParseTensor(const std::string& name, const Json& value, uint64_t data_begin,
                                       uint64_t file_size) {
  if (!value.is_object()) return absl::InvalidArgumentError("is not an object");
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    if (!value.contains(key)) return absl::InvalidArgumentError(absl::StrCat("lacks '", key, "'"));
  }
  TensorInfo info;
  info.name = name;
  const Json& dtype = value["dtype"];
  const std::optional<Dtype> known = dtype.is_string() ? DtypeNamed(dtype.get_ref<const std::string&>()) : std::nullopt;
  if (!known) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has dtype ", dtype.is_string() ? Shown(dtype.get<std::string>()) : "of the wrong kind", "; known are ",
        absl::StrJoin(kDtypes, ", ",
                      [](std::string* out, const DtypeRow& row) { absl::StrAppend(out, View(row.name)); })));
  }
  info.dtype = *known;
  if (!value["shape"].is_array()) return absl::InvalidArgumentError("shape is not a list");
  for (const Json& size : value["shape"]) {
    ASSIGN_OR_RETURN(const uint64_t n, Unsigned(size, "each size of the shape"));
    if (n > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return absl::InvalidArgumentError(absl::StrCat("has a size of ", n, " in its shape"));
    }
    info.shape.push_back(static_cast<int64_t>(n));
  }
  const Json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) return absl::InvalidArgumentError("data_offsets is not a pair");
  ASSIGN_OR_RETURN(const uint64_t begin, Unsigned(offsets[0], "data_offsets"));
  ASSIGN_OR_RETURN(const uint64_t end, Unsigned(offsets[1], "data_offsets"));
  const uint64_t data_bytes = file_size - data_begin;
  if (begin > end || end > data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("claims bytes ", begin, " to ", end, " of ", data_bytes,
                                                   " bytes of data (is the file truncated?)"));
  }
  uint64_t bytes = 0;
  if (!ByteCount(info.shape, info.dtype, bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("shape [", absl::StrJoin(info.shape, ", "), "] is too large"));
  }
  if (bytes != end - begin) {
    return absl::InvalidArgumentError(absl::StrCat("shape [", absl::StrJoin(info.shape, ", "), "] of ",
                                                   View(Name(info.dtype)), " takes ", bytes,
                                                   " bytes, data_offsets give ", end - begin));
  }
  info.begin = data_begin + begin;
  info.end = data_begin + end;
  return info;
}

}  // namespace

std::string_view Name(Dtype dtype) { return kDtypes[static_cast<size_t>(dtype)].name; }
int64_t BytesPerElement(Dtype dtype) { return kDtypes[static_cast<size_t>(dtype)].bytes; }

int64_t TensorInfo::Elements() const {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size == 0) return 0;
  }
  for (const int64_t size : shape) count *= size;
  return count;
}

absl::StatusOr<Header> ParseHeader(std::string_view start, uint64_t file_size, std::string_view file_name) {
  const auto bad = [&](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat(View(file_name), ": ", parts...));
  };
  if (file_size < 8 || start.size() < 8) return bad("not a safetensors file: ", file_size, " bytes");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(start[i]);
  if (length > kMaxHeaderBytes || length > file_size - 8 || length > start.size() - 8) {
    return bad("the header claims ", length, " bytes, the file has ", file_size,
               " (truncated, or not a safetensors file)");
  }
  const Json json = Json::parse(start.substr(8, length), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return bad("the header is not a JSON object");
  Header header;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) return bad("__metadata__ is not an object");
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) return bad("__metadata__ holds something that is not a string at ", Shown(key));
        header.metadata[key] = text.get<std::string>();
      }
      continue;
    }
    absl::StatusOr<TensorInfo> info = ParseTensor(name, value, 8 + length, file_size);
    if (!info.ok()) return bad("tensor ", Shown(name), " ", info.status().message());
    header.tensors.push_back(*std::move(info));
  }
  std::sort(header.tensors.begin(), header.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t place = 8 + length;
  for (const TensorInfo& tensor : header.tensors) {
    if (tensor.begin < place) return bad("tensor ", Shown(tensor.name), " overlaps the one before it");
    // Bytes that belong to no tensor could hold anything; the reference implementation refuses them too.
    if (tensor.begin > place) {
      return bad("tensor ", Shown(tensor.name), " begins at byte ", tensor.begin, ", the data before it end at ",
                 place);
    }
    place = tensor.end;
  }
  if (place != file_size) return bad("the tensors end at byte ", place, ", the file at ", file_size);
  return header;
}

absl::StatusOr<std::string> MakeHeader(const std::vector<TensorSpec>& specs,
                                       const std::map<std::string, std::string>& metadata,
                                       std::vector<TensorInfo>* infos) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!metadata.empty()) json["__metadata__"] = metadata;
  std::vector<TensorInfo> placed;
  std::set<std::string_view> names;
  uint64_t place = 0;
  for (const TensorSpec& spec : specs) {
    if (spec.name == "__metadata__" || !names.insert(spec.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("tensor name ", Shown(spec.name), " is taken"));
    }
    uint64_t bytes = 0;
    if (std::any_of(spec.shape.begin(), spec.shape.end(), [](int64_t size) { return size < 0; }) ||
        !ByteCount(spec.shape, spec.dtype, bytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Shown(spec.name), " has shape [", absl::StrJoin(spec.shape, ", "), "]"));
    }
    // ordered_json looks for the key from the front: push, do not search, or many tensors take quadratic time.
    json.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(
        spec.name, nlohmann::ordered_json{
                       {"dtype", Name(spec.dtype)}, {"shape", spec.shape}, {"data_offsets", {place, place + bytes}}});
    placed.push_back({spec.name, spec.dtype, spec.shape, place, place + bytes});
    place += bytes;
  }
  std::string text = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string start(8, '\0');
  for (int i = 0; i < 8; ++i) start[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  start += text;
  for (TensorInfo& info : placed) {
    info.begin += start.size();
    info.end += start.size();
  }
  if (infos != nullptr) *infos = std::move(placed);
  return start;
}

}  // namespace studio::safetensors
