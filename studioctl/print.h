// Records in the forms that -o names: table, wide, json (protobuf's, with proto field names), yaml (the same data) and
// name (ids alone).
//
// Pure functions.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "proto/studio/v1/controller.pb.h"

namespace studio::ctl {

// An array where `many`, else the one object.
std::string PrintJobs(const std::vector<v1::JobRecord>& records, const std::string& form, bool many, absl::Time now);
std::string PrintWorkers(const std::vector<v1::WorkerRecord>& workers, const std::string& form, absl::Time now);

std::string ToJson(const google::protobuf::Message& message);
// JSON as block-style YAML 1.2; strings are quoted wherever they could be read as something else.
std::string JsonToYaml(const std::string& json);

// "PENDING", "RUNNING (UNKNOWN)", "FAILED (DEVICE_OOM)".
std::string StateText(const v1::JobRecord& record);
std::string AttemptStateText(v1::AttemptState state);

}  // namespace studio::ctl
