// The header of a safetensors file (docs: https://huggingface.co/docs/safetensors): eight bytes with the length of a
// JSON object, the object, then the tensors' bytes.
//
//   ASSIGN_OR_RETURN(Header header, ParseHeader(first_bytes, file_size, "model.safetensors"));
//   for (const TensorInfo& tensor : header.tensors) …
//
// Pure; without LibTorch. Whatever a file claims is checked: after a success every tensor lies inside the file, has as
// many bytes as its shape and type say, and overlaps no other.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace studio::safetensors {

enum class Dtype { kBool, kU8, kI8, kF8E5M2, kF8E4M3, kU16, kI16, kF16, kBF16, kU32, kI32, kF32, kU64, kI64, kF64 };

// "BF16".
std::string_view Name(Dtype dtype);
int64_t BytesPerElement(Dtype dtype);

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;
  // Of the file, in bytes: [begin, end).
  uint64_t begin = 0;
  uint64_t end = 0;

  int64_t Elements() const;
  uint64_t bytes() const { return end - begin; }
};

struct Header {
  // In the order of their bytes.
  std::vector<TensorInfo> tensors;
  std::map<std::string, std::string> metadata;
};

// A longer header is refused, as by the reference implementation.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;

// `start`: the file's bytes, at least up to the end of the header. InvalidArgument names the file and the tensor.
absl::StatusOr<Header> ParseHeader(std::string_view start, uint64_t file_size, std::string_view file_name);

// What a writer plans: offsets are given in the list's order.
struct TensorSpec {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;
};

// The first bytes of a file with these tensors (length and JSON, padded to 8 bytes). `infos`, if wanted, receives
// where each goes. InvalidArgument for a repeated name or a negative size.
absl::StatusOr<std::string> MakeHeader(const std::vector<TensorSpec>& specs,
                                       const std::map<std::string, std::string>& metadata,
                                       std::vector<TensorInfo>* infos);

}  // namespace studio::safetensors
