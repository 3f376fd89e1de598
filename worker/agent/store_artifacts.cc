#include "worker/agent/store_artifacts.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/artifact/file_tree.h"
#include "common/artifact/transfer_client.h"
#include "common/env/posix_env.h"
#include "common/status/macros.h"
#include "common/time/jitter.h"

namespace studio::worker {
namespace {

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsUnknown(status) ||
         absl::IsAborted(status);
}

TransferClient ClientFor(const std::string& address, const std::atomic<bool>& cancelled,
                         std::atomic<int64_t>* sent_bytes) {
  TransferClient::Options options;
  options.stop = &cancelled;
  options.sent_bytes = sent_bytes;
  // A controller's machine that is gone without a word is noticed, whatever a transfer waits for.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  return TransferClient(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments), options);
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoreArtifacts>> StoreArtifacts::Open(
    const std::string& content_dir, const std::string& kept_dir, const std::string& controller,
    std::function<void(const absl::Status&)> on_sync_failure) {
  ContentStore::Options options;
  options.on_sync_failure = std::move(on_sync_failure);
  ASSIGN_OR_RETURN(std::unique_ptr<ContentStore> store, ContentStore::Open(content_dir, std::move(options)));
  return std::unique_ptr<StoreArtifacts>(new StoreArtifacts(std::move(store), kept_dir, controller));
}

void StoreArtifacts::SetAddress(const std::string& announced) {
  std::string address = TransferAddress(controller_, announced);
  spdlog::info("transfers go to {}", address);
  const std::lock_guard<std::mutex> lock(mutex_);
  address_ = std::move(address);
}

absl::Status StoreArtifacts::WithController(const std::atomic<bool>& cancelled,
                                            const std::function<absl::Status(const std::string& address)>& once) {
  // Between whole rounds of the transfer client's own retries: a controller that is away for long.
  constexpr absl::Duration kPause = absl::Seconds(1);
  while (!cancelled) {
    std::string address;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      address = address_;
    }
    const absl::Status status = address.empty() ? absl::UnavailableError("no controller yet") : once(address);
    if (!MayPass(status)) return status;
    spdlog::warn("transfer: {}; trying again", status.ToString());
    std::this_thread::sleep_for(absl::ToChronoMilliseconds(Jittered(kPause)));
  }
  return absl::CancelledError("the attempt is over");
}

// A machine that lost its power, or a disk that lies, may leave a blob shorter or other than it was. Ranks read links
// to it: half a file of rows would train, and succeed.
void StoreArtifacts::DropDamaged(const v1::Artifact& artifact) {
  for (const v1::FileRef& file : artifact.files()) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (verified_.count(file.sha256()) > 0) continue;
    }
    if (!store_->Has(file.sha256())) continue;
    const absl::Status status = store_->Verify(file.sha256());
    const std::lock_guard<std::mutex> lock(mutex_);
    if (status.ok()) verified_.insert(file.sha256());
    if (!status.ok()) spdlog::warn("{}: {}", file.path(), std::string(status.message()));
  }
}

absl::Status StoreArtifacts::Fetch(const v1::Artifact& artifact, const std::string& folder,
                                   const std::atomic<bool>& cancelled) {
  DropDamaged(artifact);
  // Another attempt may release a blob between the two steps: then it is fetched once more.
  absl::Status placed;
  for (int round = 0; round < 2; ++round) {
    bool complete = true;
    for (const v1::FileRef& file : artifact.files()) complete = complete && store_->Has(file.sha256());
    if (!complete) {
      RETURN_IF_ERROR(WithController(cancelled, [&](const std::string& address) {
        return ClientFor(address, cancelled, nullptr).DownloadToStore(artifact, *store_, {});
      }));
    }
    placed = store_->PlaceInFolder(artifact, folder, ContentStore::Mode::kLink);
    if (!absl::IsNotFound(placed)) break;
  }
  return placed;
}

// Links, so that the attempt's own folder may go.
absl::Status StoreArtifacts::Keep(const std::string& folder, v1::Artifact& artifact) {
  PosixEnv env;
  const std::string kept = absl::StrCat(kept_dir_, "/", ArtifactDigest(artifact));
  for (const v1::FileRef& file : artifact.files()) {
    const std::string path = absl::StrCat(kept, "/", file.path());
    RETURN_IF_ERROR(env.MakeFolders(std::filesystem::path(path).parent_path().string()));
    RETURN_IF_ERROR(env.Link(absl::StrCat(folder, "/", file.path()), path));
  }
  artifact.set_uri(absl::StrCat("file:", kept));
  return absl::OkStatus();
}

absl::StatusOr<v1::Artifact> StoreArtifacts::Publish(const std::string& folder, const std::atomic<bool>& cancelled) {
  // A checkpoint's manifest travels in its record, and is written anew from there: sent, it would be a file that nobody
  // names.
  TreeOptions options;
  options.include = [](const std::string& path) { return path != "manifest.pb.txt"; };
  ASSIGN_OR_RETURN(v1::Artifact artifact, HashTree(folder, options));
  for (const v1::FileRef& file : artifact.files()) {
    if (file.size_bytes() <= store_->max_blob_bytes()) continue;
    RETURN_IF_ERROR(Keep(folder, artifact));
    return artifact;
  }
  for (const v1::FileRef& file : artifact.files()) {
    RETURN_IF_ERROR(
        store_->Add(absl::StrCat(folder, "/", file.path()), file.path(), ContentStore::Mode::kLink).status());
  }
  RETURN_IF_ERROR(WithController(cancelled, [&](const std::string& address) {
    return ClientFor(address, cancelled, &sent_bytes_).Upload(folder, artifact, {});
  }));
  artifact.set_uri("studio:");
  return artifact;
}

void StoreArtifacts::Release(const v1::Artifact& artifact) {
  const std::string kept = absl::StrCat("file:", kept_dir_, "/");
  if (absl::StartsWith(artifact.uri(), kept)) (void)PosixEnv().RemoveAll(artifact.uri().substr(5));
  for (const v1::FileRef& file : artifact.files()) (void)store_->Remove(file.sha256());
}

}  // namespace studio::worker
