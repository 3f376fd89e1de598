// What lies where in a controller's state folder, and in a backup, which is one with a manifest.
#pragma once

namespace studio::controller {

inline constexpr char kDatabaseFile[] = "controller.db";  // store/sqlite_store.h
inline constexpr char kContentFolder[] = "content";       // common/artifact/content_store.h
inline constexpr char kLogsFolder[] = "logs";             // logs/attempt_logs.h
inline constexpr char kBackupsFolder[] = "backups";       // one folder each; in no backup
inline constexpr char kManifestFile[] = "backup.pb.txt";  // v1::Backup; only in a backup

}  // namespace studio::controller
