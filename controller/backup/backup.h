// Backups of a controller: written while it runs, checked and restored while it does not.
//
//   ASSIGN_OR_RETURN(v1::Backup backup, WriteBackup(store, content, "/var/lib/studio", "now"));   // in the controller
//   RETURN_IF_ERROR(RestoreBackup("/backups/before-upgrade", "/var/lib/studio-new"));
//
// A backup is one moment of the store, with every blob that its jobs name. Blobs are hard-linked (nobody changes them),
// so a backup on the same disk costs next to nothing and guards against mistakes; against a dead disk, copy its folder
// to another machine. docs/backup.md.
//
// Blocking; one WriteBackup at a time (FailedPrecondition).
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/artifact/content_store.h"
#include "controller/store/sqlite_store.h"
#include "proto/studio/v1/controller.pb.h"

namespace studio::controller {

// Into STATE_DIR/backups/`name`. InvalidArgument for a name that is no plain file name, AlreadyExists.
absl::StatusOr<v1::Backup> WriteBackup(SqliteStore& store, ContentStore& content, const std::string& state_dir,
                                       const std::string& name);

// Makes `state_dir` from a backup that passes VerifyFolder. FailedPrecondition where a controller's state is there.
// Job ids and epochs go on far above the backup's: what was given out after it is never given again, so that a worker
// or a person who remembers one is told that it is not there, and never meets another of the same name.
absl::Status RestoreBackup(const std::string& backup, const std::string& state_dir);

}  // namespace studio::controller
