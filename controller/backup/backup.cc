#include "controller/backup/backup.h"

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/time_util.h>

#include <filesystem>
#include <future>
#include <memory>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/artifact/content_store.h"
#include "common/artifact/file_io.h"
#include "common/artifact/sha256.h"
#include "common/env/posix_env.h"
#include "common/status/macros.h"
#include "common/version/version.h"
#include "controller/backup/state_folder.h"
#include "controller/backup/verify.h"
#include "controller/store/blobs.h"

namespace studio::controller {
namespace {

namespace fs = std::filesystem;

// More than any controller gives out between a backup and its restoring.
constexpr int64_t kJobsLeftOut = 1'000'000;
constexpr int64_t kEpochsLeftOut = int64_t{1} << 32;

absl::Status CheckName(const std::string& name) {
  bool plain = !name.empty() && name.size() <= 100 && name[0] != '.';
  for (const char c : name) plain = plain && (absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.');
  if (plain) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a backup cannot be named \"", name, "\": use up to 100 letters, ",
                                                 "digits, '-', '_' and '.', and no '.' in front"));
}

// Every blob that a job names, into a content store of its own.
absl::Status TakeBlobs(const StoreContents& contents, const ContentStore& from, const std::string& to,
                       v1::Backup& backup) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ContentStore> target, ContentStore::Open(to, {}));
  for (const auto& [number, record] : contents.jobs) {
    for (const v1::FileRef& blob : BlobsOf(record)) {
      if (target->Has(blob.sha256())) continue;
      const absl::Status taken = from.Share(blob.sha256(), *target);
      if (!taken.ok()) {
        return absl::Status(taken.code(), absl::StrCat("job ", JobId(number), ": ", taken.message()));
      }
      backup.set_blobs(backup.blobs() + 1);
      backup.set_blob_bytes(backup.blob_bytes() + blob.size_bytes());
    }
  }
  return absl::OkStatus();
}

// Logs grow and are nobody's proof: what is there is copied, as far as it goes.
absl::Status CopyLogs(const std::string& from, const std::string& to) {
  std::error_code error;
  if (!fs::exists(from, error)) return absl::OkStatus();
  fs::copy(from, to, fs::copy_options::recursive | fs::copy_options::skip_symlinks, error);
  if (error) return absl::InternalError(absl::StrCat("copy ", from, " to ", to, ": ", error.message()));
  return absl::OkStatus();
}

absl::StatusOr<StoreContents> ReadStore(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SqliteStore> store, SqliteStore::Open(path, SqliteStore::Migration::kLeave));
  return store->LoadAll();
}

absl::Status Fill(SqliteStore& store, const ContentStore& content, const std::string& state_dir,
                  const std::string& folder, v1::Backup& backup) {
  const std::string database = absl::StrCat(folder, "/", kDatabaseFile);
  std::promise<absl::Status> copied;
  store.BackUp(database, [&](const absl::Status& status) { copied.set_value(status); });
  RETURN_IF_ERROR(copied.get_future().get());
  ASSIGN_OR_RETURN(const StoreContents contents, ReadStore(database));
  backup.set_jobs(static_cast<int64_t>(contents.jobs.size()));
  RETURN_IF_ERROR(TakeBlobs(contents, content, absl::StrCat(folder, "/", kContentFolder), backup));
  RETURN_IF_ERROR(CopyLogs(absl::StrCat(state_dir, "/", kLogsFolder), absl::StrCat(folder, "/", kLogsFolder)));
  backup.mutable_database()->set_path(kDatabaseFile);
  backup.mutable_database()->set_size_bytes(static_cast<int64_t>(fs::file_size(database)));
  ASSIGN_OR_RETURN(*backup.mutable_database()->mutable_sha256(), Sha256OfFile(database));
  std::string text;
  google::protobuf::TextFormat::PrintToString(backup, &text);
  PosixEnv env;
  return env.WriteFile(absl::StrCat(folder, "/", kManifestFile), text);
}

absl::Status CheckManifest(const std::string& backup) {
  PosixEnv env;
  const std::string path = absl::StrCat(backup, "/", kManifestFile);
  const absl::StatusOr<std::string> text = env.ReadFile(path);
  if (!text.ok()) {
    return absl::Status(text.status().code(),
                        absl::StrCat(backup, " is no finished backup: ", text.status().message()));
  }
  v1::Backup manifest;
  if (!google::protobuf::TextFormat::ParseFromString(*text, &manifest)) {
    return absl::DataLossError(absl::StrCat(path, " is damaged; take another backup"));
  }
  ASSIGN_OR_RETURN(const std::string hash, Sha256OfFile(absl::StrCat(backup, "/", kDatabaseFile)));
  if (hash == manifest.database().sha256()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(backup, "/", kDatabaseFile, " has SHA-256 ", hash, ", and ", kManifestFile,
                                          " says ", manifest.database().sha256(), "; take another backup"));
}

// Goes on far above what the backup knows.
absl::Status LeaveNumbersOut(const std::string& database) {
  ASSIGN_OR_RETURN(const std::unique_ptr<SqliteStore> store,
                   SqliteStore::Open(database, SqliteStore::Migration::kLeave));
  ASSIGN_OR_RETURN(const StoreContents contents, store->LoadAll());
  Batch batch;
  batch.last_job = contents.last_job + kJobsLeftOut;
  batch.last_epoch = contents.last_epoch + kEpochsLeftOut;
  std::promise<absl::Status> stored;
  store->Commit(std::move(batch), [&](const absl::Status& status) { stored.set_value(status); });
  return stored.get_future().get();
}

}  // namespace

absl::StatusOr<v1::Backup> WriteBackup(SqliteStore& store, ContentStore& content, const std::string& state_dir,
                                       const std::string& name) {
  RETURN_IF_ERROR(CheckName(name));
  v1::Backup backup;
  backup.set_version(kVersion);
  *backup.mutable_time() = google::protobuf::util::TimeUtil::GetCurrentTime();
  const std::string folder = absl::StrCat(state_dir, "/", kBackupsFolder, "/", name);
  if (fs::exists(folder))
    return absl::AlreadyExistsError(absl::StrCat(folder, " is there already; choose another name"));
  const std::string partial = folder + ".partial";
  std::error_code ignored;
  fs::remove_all(partial, ignored);  // of a controller that died over it
  RETURN_IF_ERROR(MakeFolders(partial));
  // What the copied store names may be superseded before it is linked.
  const ContentStore::KeepAll keep_all(content);
  absl::Status status = Fill(store, content, state_dir, partial, backup);
  if (status.ok()) status = MoveDurably(partial, folder);
  if (!status.ok()) {
    fs::remove_all(partial, ignored);
    return status;
  }
  backup.set_folder(folder);
  return backup;
}

absl::Status RestoreBackup(const std::string& backup, const std::string& state_dir) {
  const std::string database = absl::StrCat(state_dir, "/", kDatabaseFile);
  if (fs::exists(database)) {
    return absl::FailedPreconditionError(
        absl::StrCat(state_dir, " holds a controller's state already; restore into another --state-dir"));
  }
  RETURN_IF_ERROR(CheckManifest(backup));
  ASSIGN_OR_RETURN(const Verified verified, VerifyFolder(backup));
  if (!verified.problems.empty()) {
    return absl::DataLossError(absl::StrCat(backup, " is not whole: ", absl::StrJoin(verified.problems, "; ")));
  }
  RETURN_IF_ERROR(MakeFolders(state_dir));
  ASSIGN_OR_RETURN(const StoreContents contents, ReadStore(absl::StrCat(backup, "/", kDatabaseFile)));
  v1::Backup counted;
  ASSIGN_OR_RETURN(const std::unique_ptr<ContentStore> content,
                   ContentStore::Open(absl::StrCat(backup, "/", kContentFolder), {}));
  RETURN_IF_ERROR(TakeBlobs(contents, *content, absl::StrCat(state_dir, "/", kContentFolder), counted));
  std::error_code error;
  fs::remove_all(absl::StrCat(state_dir, "/", kLogsFolder), error);
  RETURN_IF_ERROR(CopyLogs(absl::StrCat(backup, "/", kLogsFolder), absl::StrCat(state_dir, "/", kLogsFolder)));
  // The store last, under another name until it is right: a restore that was cut off is no state folder.
  const std::string partial = database + ".partial";
  for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(partial + suffix, error);
  if (!fs::copy_file(absl::StrCat(backup, "/", kDatabaseFile), partial, error)) {
    return absl::InternalError(absl::StrCat("copy ", kDatabaseFile, " to ", partial, ": ", error.message()));
  }
  RETURN_IF_ERROR(LeaveNumbersOut(partial));
  return MoveDurably(partial, database);
}

}  // namespace studio::controller
