#include "worker/data/shard_folder.h"

#include <google/protobuf/text_format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/artifact/sha256.h"
#include "common/status/macros.h"
#include "worker/data/file_io.h"

namespace studio {
namespace {

namespace fs = std::filesystem;

constexpr char kDone[] = "DONE";
constexpr int64_t kMaxSmallFile = int64_t{64} << 20;

// A shard vouches for itself; DONE holds the hash of the other files.
std::string HashFor(const std::string& name, const std::string& bytes) {
  return absl::EndsWith(name, ".tok") ? "-" : Sha256Hex(bytes);
}

absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list folder ", folder));
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status Rename(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot rename ", from, " to ", to));
}

// Reads everything that DONE names; any fault is an error.
absl::StatusOr<ShardSet> Read(const std::string& folder, const std::string& done) {
  ShardSet set;
  std::string report, prompts;
  for (absl::string_view line : absl::StrSplit(done, '\n', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> entry = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    const std::string& name = entry.second;
    const std::string path = absl::StrCat(folder, "/", name);
    if (absl::EndsWith(name, ".tok")) {
      ASSIGN_OR_RETURN(TokenShard shard, TokenShard::Open(path));
      (absl::StartsWith(name, "train-") ? set.train : set.validation).push_back(std::move(shard));
      continue;
    }
    ASSIGN_OR_RETURN(std::string bytes, dataprep::ReadFile(path, kMaxSmallFile));
    if (HashFor(name, bytes) != entry.first) return absl::DataLossError(absl::StrCat(path, ": not as it was written"));
    if (name == "report.pb.txt") report = std::move(bytes);
    if (name == "prompts.json") prompts = std::move(bytes);
  }
  if (set.train.empty()) return absl::DataLossError(absl::StrCat(folder, ": no training shard"));
  if (!google::protobuf::TextFormat::ParseFromString(report, &set.report)) {
    return absl::DataLossError(absl::StrCat(folder, "/report.pb.txt: not a DataReport"));
  }
  ASSIGN_OR_RETURN(set.prompts, ParseJson(prompts, absl::StrCat(folder, "/prompts.json")));
  return set;
}

}  // namespace

std::string ShardName(absl::string_view set, size_t number) { return absl::StrFormat("%s-%05d.tok", set, number); }

ShardFolder::ShardFolder(std::string data_dir, std::string key_text)
    : data_dir_(std::move(data_dir)),
      key_text_(std::move(key_text)),
      key_(Sha256Hex(key_text_)),
      path_(absl::StrCat(data_dir_, "/", key_)) {}

absl::StatusOr<std::optional<ShardSet>> ShardFolder::Load(std::string* damage) const {
  absl::StatusOr<std::string> done = dataprep::ReadFile(absl::StrCat(path_, "/", kDone), kMaxSmallFile);
  if (!done.ok()) {
    if (!absl::IsNotFound(done.status())) return done.status();
    std::error_code error;
    if (damage != nullptr && fs::exists(path_, error)) *damage = absl::StrCat(path_, " has no ", kDone);
    return std::nullopt;
  }
  absl::StatusOr<ShardSet> set = Read(path_, *done);
  if (set.ok()) {
    // What was used lately is kept (worker/agent/cache.h).
    std::error_code ignored;
    fs::last_write_time(path_, fs::file_time_type::clock::now(), ignored);
    return *std::move(set);
  }
  if (absl::IsPermissionDenied(set.status())) return set.status();
  if (damage != nullptr) *damage = std::string(set.status().message());
  return std::nullopt;
}

absl::StatusOr<FileLock> ShardFolder::Lock() const { return FileLock::Acquire(absl::StrCat(path_, ".lock")); }

absl::StatusOr<std::string> ShardFolder::Begin() const {
  const std::string prefix = absl::StrCat(".tmp-", key_);
  ASSIGN_OR_RETURN(std::vector<std::string> names, NamesIn(data_dir_));
  for (const std::string& name : names) {
    std::error_code ignored;
    if (absl::StartsWith(name, prefix)) fs::remove_all(absl::StrCat(data_dir_, "/", name), ignored);
  }
  const std::string temp = absl::StrCat(data_dir_, "/", prefix, "-", getpid());
  RETURN_IF_ERROR(MakeFolders(temp));
  return temp;
}

absl::Status ShardFolder::Commit(const std::string& temp) const {
  RETURN_IF_ERROR(dataprep::WriteFile(absl::StrCat(temp, "/key.txt"), key_text_));
  ASSIGN_OR_RETURN(std::vector<std::string> names, NamesIn(temp));
  std::string done;
  for (const std::string& name : names) {
    std::string bytes;
    if (!absl::EndsWith(name, ".tok")) {
      ASSIGN_OR_RETURN(bytes, dataprep::ReadFile(absl::StrCat(temp, "/", name), kMaxSmallFile));
    }
    absl::StrAppend(&done, HashFor(name, bytes), " ", name, "\n");
  }
  RETURN_IF_ERROR(dataprep::WriteFile(absl::StrCat(temp, "/", kDone), done));
  RETURN_IF_ERROR(SyncFolder(temp));

  std::error_code error;
  if (fs::exists(path_, error)) {  // damaged: we hold the lock and found nothing to load
    const std::string aside = absl::StrCat(temp, "-damaged");
    RETURN_IF_ERROR(Rename(path_, aside));
    fs::remove_all(aside, error);
  }
  RETURN_IF_ERROR(Rename(temp, path_));
  return SyncFolder(data_dir_);
}

}  // namespace studio
