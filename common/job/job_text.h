// A job as people write it: text form in, Job out, with errors that an editor can jump to.
//
//   ASSIGN_OR_RETURN(Job job, ParseJobText(text, "job.pb.txt"));
//   RETURN_IF_ERROR(ApplySet(job, "training.learning_rate=1e-4"));
//   RETURN_IF_ERROR(Validate(job));  // job_rules.h
//
// Pure functions; any thread.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/studio/v1/job.pb.h"

namespace studio {

// Largest job text accepted.
inline constexpr size_t kMaxJobTextBytes = 1 << 20;

// Only the syntax and the names: ranges are Validate's. InvalidArgument, one "file:line:column: message" a line, lines
// and columns (in characters) counted from 1, with the nearest known name for an unknown one.
absl::StatusOr<v1::Job> ParseJobText(absl::string_view text, absl::string_view file_name);

// Sets one field by its dotted path, as `--set` does. Strings need no quotes; lists are replaced and take commas
// ("training.lora_target_modules=q_proj,v_proj") or a text-form list (["a, b", "c"]); labels are "labels.team=search".
absl::Status ApplySet(v1::Job& job, absl::string_view assignment);

}  // namespace studio
