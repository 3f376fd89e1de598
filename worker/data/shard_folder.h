// The folder of prepared data: found complete or made whole (docs/token_shard_format.md, "The folder").
//
//   ShardFolder folder(data_dir, key_text);                 // named by the SHA-256 of key_text
//   ASSIGN_OR_RETURN(std::optional<ShardSet> ready, folder.Load());
//   if (!ready) {
//     ASSIGN_OR_RETURN(FileLock lock, folder.Lock());       // others wait here; then look again
//     ASSIGN_OR_RETURN(std::string temp, folder.Begin());
//     … write files into temp …
//     RETURN_IF_ERROR(folder.Commit(temp));
//   }
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/file_lock.h"
#include "proto/studio/v1/state.pb.h"
#include "worker/data/json_file.h"
#include "worker/data/token_shard.h"

namespace studio {

struct ShardSet {
  std::vector<TokenShard> train;
  std::vector<TokenShard> validation;
  v1::DataReport report;
  // prompts.json: [{"messages", "tools", "answer"}, …]
  Json prompts;
};

class ShardFolder {
 public:
  ShardFolder(std::string data_dir, std::string key_text);

  const std::string& key() const { return key_; }
  const std::string& path() const { return path_; }

  // Nothing where the folder is not there, or is damaged (`damage` says how, where it is not null).
  absl::StatusOr<std::optional<ShardSet>> Load(std::string* damage = nullptr) const;

  // Blocks while another process prepares the same data; held until the result goes.
  absl::StatusOr<FileLock> Lock() const;

  // An empty folder to write into; what dead processes left of earlier tries is removed. Only under the lock.
  absl::StatusOr<std::string> Begin() const;

  // Adds key.txt and DONE, syncs, and puts the folder in its place, instead of a damaged one. Only under the lock.
  absl::Status Commit(const std::string& temp) const;

 private:
  std::string data_dir_;
  std::string key_text_;
  std::string key_;
  std::string path_;
};

// "train-00003.tok"
std::string ShardName(absl::string_view set, size_t number);

}  // namespace studio
