#include "worker/trainer/planned/attention_table.h"

#include "absl/strings/str_cat.h"
#include "common/artifact/sha256.h"
#include "common/status/macros.h"

namespace studio::planned {

std::string AttentionTable::PathOf(const AttentionKey& key) const {
  return absl::StrCat(folder_, "/", Sha256Hex(KeyText(key)), ".attention.json");
}

absl::StatusOr<AttentionFigures> AttentionTable::Find(const AttentionKey& key) const {
  if (folder_.empty()) return absl::NotFoundError("no folder for attention's figures");
  const std::string path = PathOf(key);
  ASSIGN_OR_RETURN(const std::string text, env_.ReadFile(path));
  absl::StatusOr<AttentionFigures> figures = ParseFigures(text, key);
  if (!figures.ok()) return absl::DataLossError(absl::StrCat(path, ": ", figures.status().message()));
  return figures;
}

absl::Status AttentionTable::Store(const AttentionKey& key, const AttentionFigures& figures) {
  if (folder_.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(env_.MakeFolders(folder_));
  const std::string path = PathOf(key), text = FiguresText(key, figures);
  // Env::WriteFile writes beside the file under one name, which two ranks at once would share. Theirs differ in their
  // figures; where they do not, the bytes are the same.
  const std::string own = absl::StrCat(path, ".", Sha256Hex(text).substr(0, 16));
  absl::Status stored = env_.WriteFile(own, text);
  if (stored.ok()) stored = env_.Link(own, path);
  env_.RemoveAll(own).IgnoreError();  // a name too many harms nobody
  if (!stored.ok() && Find(key).ok()) return absl::OkStatus();
  return stored;
}

}  // namespace studio::planned
