// Attention's figures on disk, so that a shape is measured once on a machine.
//
//   AttentionTable table(env, kernels::DefaultKernelFolder());
//   if (const auto figures = table.Find(key); figures.ok()) return Fastest(*figures);
//   … measure …
//   RETURN_IF_ERROR(table.Store(key, figures));
//
// One file for each key, <folder>/<SHA-256 of KeyText>.attention.json, so that processes with other shapes never touch
// each other's. Ranks that store the same key at once each write a file of their own and give it the name: a reader
// sees one of them whole, or none.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "worker/trainer/planned/attention_figures.h"

namespace studio::planned {

class AttentionTable {
 public:
  // `env` outlives the table. An empty folder: nothing is kept.
  AttentionTable(Env& env, std::string folder) : env_(env), folder_(std::move(folder)) {}

  // NotFound where nothing is kept of the key, DataLoss where its file is damaged, else the disk's error.
  absl::StatusOr<AttentionFigures> Find(const AttentionKey& key) const;

  // Replaces what is there. The disk's error; fine where another process has stored the key meanwhile.
  absl::Status Store(const AttentionKey& key, const AttentionFigures& figures);

 private:
  std::string PathOf(const AttentionKey& key) const;

  Env& env_;
  const std::string folder_;
};

}  // namespace studio::planned
