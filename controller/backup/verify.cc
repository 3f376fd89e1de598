#include "controller/backup/verify.h"

#include <filesystem>
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/artifact/content_store.h"
#include "common/artifact/sha256.h"
#include "common/job/job_machine.h"
#include "common/status/macros.h"
#include "controller/backup/state_folder.h"
#include "controller/store/blobs.h"
#include "controller/store/sqlite_store.h"

namespace studio::controller {
namespace {

// What is wrong with one record by itself.
std::string WrongWith(const v1::JobRecord& record) {
  int64_t newest = 0;
  for (const v1::Attempt& attempt : record.attempts()) {
    if (attempt.epoch() <= newest) return absl::StrCat("epoch ", attempt.epoch(), " follows ", newest);
    newest = attempt.epoch();
    if (IsLive(attempt.state()) && attempt.number() != record.attempts_size()) {
      return absl::StrCat("attempt ", attempt.number(), " of ", record.attempts_size(), " is not at an end");
    }
  }
  const bool live = LiveAttempt(record) != nullptr;
  const bool may_be = record.state() == v1::RUNNING || record.state() == v1::CANCELLING;
  if (live != may_be) {
    return absl::StrCat("it is ", v1::JobState_Name(record.state()), " with", live ? " a" : "out a", " live attempt");
  }
  if (record.state() == v1::SUCCEEDED && record.result().uri().empty()) return "it SUCCEEDED without a result";
  return "";
}

// What is wrong with a blob on the disk.
std::string WrongWith(const v1::FileRef& blob, const ContentStore& content) {
  const absl::StatusOr<std::string> path = content.BlobPath(blob.sha256());
  if (!path.ok()) return std::string(path.status().message());
  const absl::StatusOr<std::string> hash = Sha256OfFile(*path);
  if (!hash.ok()) return std::string(hash.status().message());
  return *hash == blob.sha256() ? "" : absl::StrCat(*path, " was changed: its bytes have SHA-256 ", *hash);
}

}  // namespace

std::vector<std::string> BrokenInvariants(const StoreContents& contents, const std::set<int64_t>& archived) {
  std::vector<std::string> problems;
  std::map<int64_t, std::string> epochs;
  for (const auto& [number, record] : contents.jobs) {
    const auto wrong = [&, id = JobId(number)](const std::string& what) {
      problems.push_back(absl::StrCat("job ", id, ": ", what));
    };
    if (record.id() != JobId(number)) wrong(absl::StrCat("its record says that it is ", record.id()));
    if (number > contents.last_job) wrong(absl::StrCat("the newest job is counted as ", JobId(contents.last_job)));
    if (const std::string what = WrongWith(record); !what.empty()) wrong(what);
    for (const v1::Attempt& attempt : record.attempts()) {
      const auto [other, is_new] = epochs.emplace(attempt.epoch(), JobId(number));
      if (!is_new && other->second != JobId(number)) {
        wrong(absl::StrCat("epoch ", attempt.epoch(), " is ", other->second, "'s, too"));
      }
      if (attempt.epoch() > contents.last_epoch) {
        wrong(absl::StrCat("epoch ", attempt.epoch(), " is above the newest, ", contents.last_epoch));
      }
    }
  }
  for (const auto& [key, id] : contents.requests) {
    const absl::StatusOr<int64_t> number = JobNumber(id);
    if (!number.ok() || contents.jobs.count(*number) + archived.count(*number) == 0) {
      problems.push_back(absl::StrCat("request ", key, ": was answered with job ", id, ", which is not there"));
    }
  }
  for (const int64_t number : archived) {
    if (number > contents.last_job || contents.jobs.count(number) > 0) {
      problems.push_back(absl::StrCat("job ", JobId(number), " is in the archive and ",
                                      number > contents.last_job ? "above the newest" : "among the others, too"));
    }
  }
  return problems;
}

absl::StatusOr<Verified> VerifyFolder(const std::string& folder) {
  const std::string database = absl::StrCat(folder, "/", kDatabaseFile);
  if (!std::filesystem::exists(database)) {
    return absl::NotFoundError(absl::StrCat(folder, ": there is no ", kDatabaseFile, " in it: name a controller's ",
                                            "--state-dir, or a folder that `studio-controller backup` wrote"));
  }
  // Before the store: its lock says whether a controller runs.
  ASSIGN_OR_RETURN(const std::unique_ptr<ContentStore> content,
                   ContentStore::Open(absl::StrCat(folder, "/", kContentFolder), {}));
  ASSIGN_OR_RETURN(const std::unique_ptr<SqliteStore> store,
                   SqliteStore::Open(database, SqliteStore::Migration::kLeave));
  RETURN_IF_ERROR(store->CheckFile());
  ASSIGN_OR_RETURN(const StoreContents contents, store->LoadAll());
  ASSIGN_OR_RETURN(const std::set<int64_t> archived, store->CheckArchive());
  Verified verified;
  verified.archived = static_cast<int64_t>(archived.size());
  verified.jobs = static_cast<int64_t>(contents.jobs.size());
  verified.problems = BrokenInvariants(contents, archived);
  std::map<std::string, std::string> seen;  // hash → what is wrong with it
  for (const auto& [number, record] : contents.jobs) {
    for (const v1::FileRef& blob : BlobsOf(record)) {
      const auto [known, is_new] = seen.try_emplace(blob.sha256());
      if (is_new) {
        ++verified.blobs;
        verified.blob_bytes += blob.size_bytes();
        known->second = WrongWith(blob, *content);
      }
      if (!known->second.empty()) {
        verified.problems.push_back(absl::StrCat("job ", JobId(number), ": \"", blob.path(), "\": ", known->second));
      }
    }
  }
  return verified;
}

}  // namespace studio::controller
