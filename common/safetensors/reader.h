// Tensors of a safetensors file, or of a folder of them, without copying: the files are mapped.
//
//   ASSIGN_OR_RETURN(Folder weights, Folder::Open("smollm2"));
//   const Tensor* tensor = weights.Find("model.norm.weight");
//
// The views live as long as the File or Folder. Safe from several threads. A file that another process truncates
// while it is mapped raises SIGBUS, as with any mapping: inputs are content-addressed and never change in place.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/safetensors/format.h"

namespace studio::safetensors {

struct Tensor {
  TensorInfo info;
  // In the machine's memory, of any alignment; little-endian.
  std::string_view data;
  // File that it lies in, for messages.
  std::string file;
};

class File {
 public:
  // NotFound, or InvalidArgument for what ParseHeader refuses.
  static absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // In the order of their bytes.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const Tensor* Find(std::string_view name) const;

 private:
  File() = default;
  void* mapping_ = nullptr;
  size_t size_ = 0;
  std::map<std::string, std::string> metadata_;
  std::vector<Tensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
};

// model.safetensors, or the shards that model.safetensors.index.json names.
class Folder {
 public:
  // NotFound where neither is there. InvalidArgument for an index that is no index, names a file outside the folder,
  // or a tensor that its file lacks.
  static absl::StatusOr<Folder> Open(const std::string& dir);

  const Tensor* Find(std::string_view name) const;
  // Sorted by name.
  const std::map<std::string, const Tensor*, std::less<>>& tensors() const { return tensors_; }

 private:
  std::vector<std::unique_ptr<File>> files_;
  std::map<std::string, const Tensor*, std::less<>> tensors_;
};

}  // namespace studio::safetensors
