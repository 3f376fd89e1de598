#include "common/safetensors/reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio::safetensors {
namespace {

absl::Status FileError(const std::string& path, int error) {
  return absl::ErrnoToStatus(error, absl::StrCat("cannot read ", path));
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

absl::StatusOr<std::unique_ptr<File>> File::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(path, errno);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  struct stat status {};
  if (fstat(fd, &status) != 0) return FileError(path, errno);
  if (!S_ISREG(status.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  std::unique_ptr<File> file(new File());
  file->size_ = static_cast<size_t>(status.st_size);
  if (file->size_ > 0) {
    void* mapping = mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapping == MAP_FAILED) return FileError(path, errno);
    file->mapping_ = mapping;
  }
  const std::string_view bytes(static_cast<const char*>(file->mapping_), file->size_);
  ASSIGN_OR_RETURN(Header header, ParseHeader(bytes, file->size_, path));
  file->metadata_ = std::move(header.metadata);
  for (TensorInfo& info : header.tensors) {
    const std::string_view data = bytes.substr(info.begin, info.bytes());
    file->index_[info.name] = file->tensors_.size();
    file->tensors_.push_back({std::move(info), data, path});
  }
  return file;
}

File::~File() {
  if (mapping_ != nullptr) munmap(mapping_, size_);
}

const Tensor* File::Find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

absl::StatusOr<Folder> Folder::Open(const std::string& dir) {
  Folder folder;
  const std::string single = absl::StrCat(dir, "/model.safetensors");
  const std::string index_path = absl::StrCat(dir, "/model.safetensors.index.json");
  if (Exists(single)) {
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, File::Open(single));
    for (const Tensor& tensor : file->tensors()) folder.tensors_[tensor.info.name] = &tensor;
    folder.files_.push_back(std::move(file));
    return folder;
  }
  std::ifstream stream(index_path, std::ios::binary);
  if (!stream) {
    return absl::NotFoundError(absl::StrCat(dir, ": has neither model.safetensors nor model.safetensors.index.json"));
  }
  std::ostringstream text;
  text << stream.rdbuf();
  const nlohmann::json index = nlohmann::json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(index_path, ": no JSON object with a weight_map"));
  }
  std::map<std::string, const File*> opened;
  for (const auto& [name, value] : index["weight_map"].items()) {
    const std::string file_name = value.is_string() ? value.get<std::string>() : "";
    if (file_name.empty() || file_name.find('/') != std::string::npos || file_name == "..") {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": tensor '", name, "' names no file of the same folder"));
    }
    const File*& file = opened[file_name];
    if (file == nullptr) {
      ASSIGN_OR_RETURN(std::unique_ptr<File> shard, File::Open(absl::StrCat(dir, "/", file_name)));
      file = shard.get();
      folder.files_.push_back(std::move(shard));
    }
    const Tensor* tensor = file->Find(name);
    if (tensor == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": tensor '", name, "' is not in ", file_name, " where the index has it"));
    }
    folder.tensors_[name] = tensor;
  }
  return folder;
}

const Tensor* Folder::Find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : found->second;
}

}  // namespace studio::safetensors
