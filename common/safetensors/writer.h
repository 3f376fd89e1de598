// Writes a safetensors file tensor by tensor, so that a large model needs no second copy in memory.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Writer> out, Writer::Create(path, {{"w", Dtype::kF32, {2, 3}}}));
//   RETURN_IF_ERROR(out->Append(bytes_of_w));
//   RETURN_IF_ERROR(out->Finish());
//
// The file has its name only once Finish returned: whole, and on the disk. Dropped without Finish, it leaves nothing.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/safetensors/format.h"

namespace studio::safetensors {

class Writer {
 public:
  // Transformers reads files whose metadata say {"format": "pt"} alone.
  static absl::StatusOr<std::unique_ptr<Writer>> Create(const std::string& path, const std::vector<TensorSpec>& tensors,
                                                        const std::map<std::string, std::string>& metadata = {
                                                            {"format", "pt"}});
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // The next tensor's bytes, in the order of `tensors`, little-endian.
  absl::Status Append(std::string_view bytes);
  // FailedPrecondition where tensors are missing.
  absl::Status Finish();

 private:
  Writer() = default;
  absl::Status Write(std::string_view bytes);
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  std::vector<TensorInfo> infos_;
  size_t next_ = 0;
};

}  // namespace studio::safetensors
