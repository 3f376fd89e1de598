// Defaults and ranges of a job, read by reflection from the rules that job.proto writes beside each field.
//
//   Job job = WithDefaults(parsed);          // every field that has a default is set
//   RETURN_IF_ERROR(Validate(job));          // everything that is wrong with it, one line each
//
// A new field needs only its rule in job.proto; what spans fields is in CheckAcrossFields (job_rules.cc).
// Pure functions; any thread.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/studio/v1/job.pb.h"
#include "proto/studio/v1/rules.pb.h"

namespace studio {

struct Violation {
  std::string field;    // dotted: "training.learning_rate"
  std::string message;  // the value, what is accepted, the remedy
};

// Fields that the job leaves out, set to their rule's default; all sections are present afterwards.
v1::Job WithDefaults(v1::Job job);

// All that is wrong, in the order of the fields. Works with and without defaults filled in.
std::vector<Violation> FindViolations(const v1::Job& job);

// InvalidArgument with one "field: message" a line.
absl::Status Validate(const v1::Job& job);

// A field that names a file or folder, as a path or a URI, and is not empty.
struct NamedFile {
  std::string field;  // dotted
  std::string value;
};
std::vector<NamedFile> NamedFiles(const v1::Job& job);
// `field` is one that NamedFiles gave.
void SetNamedFile(v1::Job& job, const std::string& field, std::string value);

// "above 0, at most 10", as messages and the job reference say it. Empty where the rule has no range.
std::string DescribeRange(const v1::FieldRule& rule);

// Shortest decimal that reads back as the same number.
std::string ShortNumber(double value);

}  // namespace studio
