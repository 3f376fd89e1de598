// The part of AttemptRun that hands checkpoints and results to the controller.
#include <spdlog/spdlog.h>

#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/agent/attempt_run.h"

namespace studio::worker {
namespace {

// What was published is what the trainer vouched for.
absl::Status CheckShards(const v1::CheckpointManifest& manifest, const v1::Artifact& published) {
  std::map<std::string, std::string> hashes;
  for (const v1::FileRef& file : published.files()) hashes[file.path()] = file.sha256();
  for (const v1::CheckpointShard& shard : manifest.shards()) {
    const auto found = hashes.find(shard.file().path());
    if (found == hashes.end()) return absl::DataLossError(absl::StrCat(shard.file().path(), " is not there"));
    if (found->second != shard.file().sha256()) {
      return absl::DataLossError(absl::StrCat(shard.file().path(), " has hash ", found->second, ", its manifest says ",
                                              shard.file().sha256()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AttemptRun::PublishCheckpoint(v1::CheckpointManifest manifest) {
  manifest.set_job_id(key().job_id());
  manifest.set_epoch(key().epoch());
  const std::string folder = absl::StrCat(OutDir(), "/checkpoints/step-", manifest.step());
  // One that has not started yet is overtaken: only the newest is ever resumed from.
  if (!publications_.empty() && publications_.back().step >= 0) publications_.pop_back();
  publications_.push_back({manifest.step(), [self = shared_from_this(), manifest, folder] {
                             absl::StatusOr<v1::Artifact> published =
                                 self->machine_.artifacts.Publish(folder, *self->cancelled_);
                             absl::Status status = published.status();
                             if (status.ok()) status = CheckShards(manifest, *published);
                             return [self, manifest, status, artifact = std::move(published)] {
                               self->publishing_ = false;
                               if (self->wordless_) return self->MaybeFinish();
                               if (!status.ok()) {
                                 v1::AttemptEvent event = self->NewEvent();
                                 event.add_notes(absl::StrCat("the checkpoint of step ", manifest.step(),
                                                              " could not be kept: ", status.message()));
                                 self->listener_.OnAttemptEvent(std::move(event));
                               } else {
                                 v1::CheckpointWritten written;
                                 *written.mutable_key() = self->key();
                                 *written.mutable_manifest() = manifest;
                                 written.mutable_manifest()->set_uri(artifact->uri());
                                 if (artifact->uri() != "studio:") {
                                   written.mutable_manifest()->set_worker_id(self->machine_.worker_id);
                                 }
                                 self->published_[manifest.step()] = *artifact;
                                 self->listener_.OnCheckpointWritten(std::move(written));
                               }
                               self->PumpPublications();
                               self->MaybeFinish();
                             };
                           }});
  PumpPublications();
}

void AttemptRun::PublishResult() {
  publications_.push_back({-1, [self = shared_from_this()] {
                             absl::StatusOr<v1::Artifact> published = self->machine_.artifacts.Publish(
                                 absl::StrCat(self->OutDir(), "/result"), *self->cancelled_);
                             return [self, published = std::move(published)] {
                               self->publishing_ = false;
                               if (published.ok()) {
                                 self->result_ = *published;
                               } else if (!self->wordless_) {
                                 self->failed_ = Failed{v1::STORAGE, absl::StrCat("the result could not be kept: ",
                                                                                  published.status().message())};
                               }
                               self->MaybeFinish();
                             };
                           }});
  PumpPublications();
}

void AttemptRun::ReleaseOlderThan(int64_t step) {
  const auto recorded = published_.find(step);
  if (recorded == published_.end()) return;
  std::set<std::string> needed;
  for (const v1::FileRef& file : recorded->second.files()) needed.insert(file.sha256());
  for (auto old = published_.begin(); old != recorded; old = published_.erase(old)) {
    v1::Artifact unneeded;
    unneeded.set_uri(old->second.uri());
    for (const v1::FileRef& file : old->second.files()) {
      if (needed.count(file.sha256()) == 0) *unneeded.add_files() = file;
    }
    machine_.artifacts.Release(unneeded);
  }
}

// The job is done: nothing resumes from this machine's copies, and the result is at the controller's.
void AttemptRun::ReleaseAll() {
  for (const auto& [unused, artifact] : published_) machine_.artifacts.Release(artifact);
  v1::Artifact resumed;
  resumed.set_uri(assign_.checkpoint().uri());
  for (const v1::CheckpointShard& shard : assign_.checkpoint().shards()) *resumed.add_files() = shard.file();
  machine_.artifacts.Release(resumed);
  if (result_.uri() == "studio:") machine_.artifacts.Release(result_);
}

void AttemptRun::PumpPublications() {
  if (publishing_ || publications_.empty()) return;
  publishing_ = true;
  auto work = std::move(publications_.front().work);
  publications_.pop_front();
  machine_.background.Run(std::move(work));
}

}  // namespace studio::worker
