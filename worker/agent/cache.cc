#include "worker/agent/cache.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

namespace studio::worker {
namespace {

namespace fs = std::filesystem;

using Inode = std::pair<uint64_t, uint64_t>;

absl::Time UsedAt(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? absl::TimeFromTimespec(info.st_mtim) : absl::InfiniteFuture();
}

// Of every file below, those that were not counted yet.
int64_t CountBytes(const std::string& path, std::set<Inode>& counted) {
  int64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    struct stat info;
    if (stat(it->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    if (counted.emplace(info.st_dev, info.st_ino).second) bytes += info.st_size;
  }
  return bytes;
}

std::vector<std::string> FoldersIn(const std::string& path) {
  std::vector<std::string> folders;
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    if (it->is_directory(error)) folders.push_back(it->path().string());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

}  // namespace

Cache::Look Cache::LookAround() const {
  Look look;
  std::set<Inode> counted;
  const auto add = [&](const std::string& folder, bool is_data) {
    const int64_t bytes = CountBytes(folder, counted);
    look.bytes += bytes;
    look.items.push_back({.name = folder, .is_data = is_data, .bytes = bytes, .used = UsedAt(folder)});
  };
  for (const std::string& folder : FoldersIn(absl::StrCat(state_dir_, "/inputs"))) add(folder, /*is_data=*/false);
  for (const std::string& folder : FoldersIn(absl::StrCat(state_dir_, "/data"))) add(folder, /*is_data=*/true);
  for (const std::string& sha256 : store_.Untouched(absl::ZeroDuration())) {
    const absl::StatusOr<std::string> path = store_.BlobPath(sha256);
    struct stat info;
    if (!path.ok() || stat(path->c_str(), &info) != 0) continue;
    const bool is_new = counted.emplace(info.st_dev, info.st_ino).second;
    look.bytes += is_new ? info.st_size : 0;
    // One with another name frees nothing: it goes once that is gone.
    if (info.st_nlink > 1) continue;
    look.items.push_back(
        {.name = sha256, .is_blob = true, .bytes = info.st_size, .used = absl::TimeFromTimespec(info.st_mtim)});
  }
  std::sort(look.items.begin(), look.items.end(),
            [](const Item& a, const Item& b) { return std::tie(a.used, a.name) < std::tie(b.used, b.name); });
  return look;
}

bool Cache::Take(const Item& item, const CacheUse& use) {
  if (item.is_blob) {
    return use.blobs.count(item.name) == 0 && store_.RemoveUntouched(item.name, absl::ZeroDuration()).value_or(0) > 0;
  }
  if (use.folders.count(item.name) > 0) return false;
  // Looked at again: it may have been used since the look.
  if (item.is_data && UsedAt(item.name) >= use.since) return false;
  std::error_code error;
  const std::string trash = absl::StrCat(state_dir_, "/trash");
  fs::create_directories(trash, error);
  std::string to;
  do {
    to = absl::StrCat(trash, "/", next_trash_++);
  } while (fs::exists(to, error));
  if (rename(item.name.c_str(), to.c_str()) == 0) return true;
  spdlog::warn("cache: move {} to {}: {}", item.name, to, std::strerror(errno));
  return false;
}

int64_t Cache::TakeAway(const Look& look, const CacheUse& use) {
  bytes_ = look.bytes;
  int64_t taken = 0;
  for (const Item& item : look.items) {
    if (bytes_ - taken <= max_bytes_) break;
    if (Take(item, use)) taken += item.bytes;
  }
  bytes_ -= taken;
  taken_bytes_ += taken;
  return taken;
}

void Cache::EmptyTrash() const {
  std::error_code error;
  fs::remove_all(absl::StrCat(state_dir_, "/trash"), error);
  if (error) spdlog::warn("cache: {}/trash: {}", state_dir_, error.message());
}

}  // namespace studio::worker
