// Which files of the content store go: those that no record names.
//
// Whatever a record is about to name is looked up (has_blob) and named in one task of this thread, and what goes, goes
// in another: so no record ever names what is gone, whatever the clocks say. The times only save somebody who has
// uploaded a file, and not yet named it, from doing so again.
#include <algorithm>

#include "controller/loop/controller_loop.h"

namespace studio::controller {
namespace {

// An unlink takes some 20 microseconds, more where the file is large.
constexpr int kBlobsAtOnce = 50;
// What a worker has to say after its greeting it says at once.
constexpr absl::Duration kTimeToTell = absl::Minutes(1);

}  // namespace

void ControllerLoop::RemoveUnlessNamed(const std::string& sha256, absl::Duration untouched) {
  if (!options_.remove_blob || jobs_.blobs().Has(sha256)) return;
  const int64_t bytes = options_.remove_blob(sha256, untouched);
  collected_blobs_ += bytes > 0 ? 1 : 0;
  collected_bytes_ += bytes;
}

absl::Time ControllerLoop::CollectSuperseded(absl::Time now) {
  for (std::string& sha256 : jobs_.TakeUnnamed()) unnamed_.push_back({std::move(sha256), now});
  for (int i = 0; i < kBlobsAtOnce && !unnamed_.empty(); ++i) {
    if (now < unnamed_.front().since + options_.superseded_grace) break;
    RemoveUnlessNamed(unnamed_.front().sha256, options_.superseded_grace);
    unnamed_.pop_front();
  }
  return unnamed_.empty() ? absl::InfiniteFuture() : unnamed_.front().since + options_.superseded_grace;
}

bool ControllerLoop::AnyHasWordToCome(absl::Time now) const {
  return std::any_of(jobs_.live().begin(), jobs_.live().end(), [&](int64_t number) {
    const v1::Attempt* attempt = LiveAttempt(*jobs_.Decided(number));
    if (attempt == nullptr) return false;
    const auto worker = workers_.find(attempt->ranks(0).worker_id());
    return worker == workers_.end() || !worker->second.session->connected() ||
           now < worker->second.greeted + kTimeToTell;
  });
}

void ControllerLoop::CollectUploads(const std::vector<std::string>& sha256s, absl::Duration untouched) {
  if (sha256s.empty() || AnyHasWordToCome(options_.now())) return;
  const auto split = sha256s.begin() + std::min<std::ptrdiff_t>(kBlobsAtOnce, std::ssize(sha256s));
  std::for_each(sha256s.begin(), split, [&](const std::string& sha256) { RemoveUnlessNamed(sha256, untouched); });
  if (split == sha256s.end()) return;
  // Others of this thread come in between.
  options_.post(
      [this, rest = std::vector<std::string>(split, sha256s.end()), untouched] { CollectUploads(rest, untouched); });
}

}  // namespace studio::controller
