#include "common/job/job_rules.h"

#include <google/protobuf/text_format.h>
#include <google/protobuf/unknown_field_set.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/job/names.h"
#include "common/job/utf8.h"
#include "common/platform/asks.h"
#include "common/status/check.h"

namespace studio {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;
using Violations = std::vector<Violation>;

void FillDefaults(Message& message) {
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.is_repeated()) continue;
    if (field.message_type() != nullptr) {
      FillDefaults(*reflection.MutableMessage(&message, &field));
      continue;
    }
    const v1::FieldRule& rule = field.options().GetExtension(v1::rule);
    if (rule.default_().empty() || reflection.HasField(message, &field)) continue;
    STUDIO_CHECK(TextFormat::ParseFieldValueFromString(rule.default_(), &field, &message))
        << field.full_name() << ": default " << rule.default_();
  }
}

// Long or binary values stay readable in a message.
std::string Shown(const std::string& value) {
  const std::string text = absl::CHexEscape(value.substr(0, 60));
  return absl::StrCat("\"", text, value.size() > 60 ? "…\"" : "\"");
}

bool InRange(const v1::FieldRule& rule, double value) {
  if (rule.has_min() && (rule.exclusive_min() ? value <= rule.min() : value < rule.min())) return false;
  return !rule.has_max() || value <= rule.max();
}

std::string Accepted(const v1::FieldRule& rule) {
  const std::string range = DescribeRange(rule);
  return absl::StrCat("accepted: ", range.empty() ? "any finite number" : range,
                      rule.unit().empty() ? "" : absl::StrCat(" (", rule.unit(), ")"));
}

void CheckNumber(const v1::FieldRule& rule, double value, const std::string& shown, const std::string& path,
                 Violations& found) {
  if (!std::isfinite(value)) {
    found.push_back({path, absl::StrCat(shown, " is not a finite number; ", Accepted(rule))});
  } else if (!InRange(rule, value)) {
    found.push_back({path, absl::StrCat(shown, " is out of range; ", Accepted(rule))});
  }
}

void CheckString(const v1::FieldRule& rule, const std::string& value, const std::string& path, Violations& found) {
  if (!IsValidUtf8(value)) {
    found.push_back({path, absl::StrCat(Shown(value), " is not valid UTF-8: save the job as UTF-8")});
  } else if (value.find('\0') != std::string::npos) {
    found.push_back({path, absl::StrCat(Shown(value), " holds a zero byte")});
  } else if (value.empty()) {
    return;  // `required` says whether it may be
  } else if (!rule.one_of().empty()) {
    for (const std::string& choice : rule.one_of()) {
      if (value == choice) return;
    }
    found.push_back(
        {path, absl::StrCat(Shown(value), " is not accepted; one of ", absl::StrJoin(rule.one_of(), ", "))});
  } else if (!InRange(rule, static_cast<double>(value.size()))) {
    found.push_back(
        {path, absl::StrCat(Shown(value), " has ", value.size(), " bytes; accepted: ", DescribeRange(rule))});
  } else if (rule.plain_name()) {
    for (const char c : value) {
      if (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-') continue;
      found.push_back({path, absl::StrCat(Shown(value), " may hold only letters, digits, '.', '_' and '-'")});
      return;
    }
    if (value[0] == '.') found.push_back({path, absl::StrCat(Shown(value), " may not start with '.'")});
  }
}

void CheckSingular(const Message& message, const FieldDescriptor& field, const v1::FieldRule& rule,
                   const std::string& path, Violations& found) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string value = reflection.GetString(message, &field);
      if (rule.required() && value.empty()) {
        found.push_back({path, rule.artifact() ? "is required: name a file or folder, or its URI" : "is required"});
        return;
      }
      return CheckString(rule, value, path, found);
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int value = reflection.GetEnumValue(message, &field);
      if (field.enum_type()->FindValueByNumber(value) == nullptr) {
        found.push_back({path, absl::StrCat(value, " is not a known value; accepted: ",
                                            absl::StrJoin(ValueNames(*field.enum_type()), ", "))});
      }
      return;
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      const int32_t value = reflection.GetInt32(message, &field);
      return CheckNumber(rule, value, absl::StrCat(value), path, found);
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      const int64_t value = reflection.GetInt64(message, &field);
      return CheckNumber(rule, static_cast<double>(value), absl::StrCat(value), path, found);
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      const uint64_t value = reflection.GetUInt64(message, &field);
      return CheckNumber(rule, static_cast<double>(value), absl::StrCat(value), path, found);
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      const double value = reflection.GetDouble(message, &field);
      return CheckNumber(rule, value, ShortNumber(value), path, found);
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      return;
    default:
      STUDIO_CHECK(false) << path << ": job rules do not know type " << field.cpp_type_name();
  }
}

void CheckRepeated(const Message& message, const FieldDescriptor& field, const v1::FieldRule& rule,
                   const std::string& path, Violations& found) {
  const Reflection& reflection = *message.GetReflection();
  const int size = reflection.FieldSize(message, &field);
  if (size == 0 ? rule.required() : !InRange(rule, size)) {
    found.push_back({path, absl::StrCat("has ", size, " elements; accepted: ", DescribeRange(rule))});
  }
  STUDIO_CHECK(field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) << path << ": only lists of strings have rules";
  v1::FieldRule each;  // the range is the list's, not its elements'
  for (int i = 0; i < size; ++i) {
    CheckString(each, reflection.GetRepeatedString(message, &field, i), absl::StrCat(path, "[", i, "]"), found);
  }
}

void CheckMessage(const Message& message, const std::string& prefix, Violations& found) {
  const Reflection& reflection = *message.GetReflection();
  // Sent by a newer client. Leaving a setting out silently would train something else than was asked for.
  const auto& unknown = reflection.GetUnknownFields(message);
  for (int i = 0; i < unknown.field_count(); ++i) {
    found.push_back({prefix.empty() ? "job" : prefix.substr(0, prefix.size() - 1),
                     absl::StrCat("has a setting of a newer version (field number ", unknown.field(i).number(),
                                  "): upgrade this side, or leave it out")});
  }
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    const v1::FieldRule& rule = field.options().GetExtension(v1::rule);
    const std::string path = prefix + field.name();
    if (field.is_map()) continue;  // labels: in CheckAcrossFields
    if (field.is_repeated()) {
      CheckRepeated(message, field, rule, path, found);
    } else if (field.message_type() != nullptr) {
      CheckMessage(reflection.GetMessage(message, &field), path + ".", found);
    } else if (!field.has_presence() || reflection.HasField(message, &field)) {
      CheckSingular(message, field, rule, path, found);
    }
  }
}

void CollectFiles(const Message& message, const std::string& prefix, std::vector<NamedFile>& files) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->is_repeated()) continue;
    const std::string path = prefix + field->name();
    if (field->message_type() != nullptr) {
      CollectFiles(reflection.GetMessage(message, field), path + ".", files);
    } else if (field->options().GetExtension(v1::rule).artifact()) {
      const std::string value = reflection.GetString(message, field);
      if (!value.empty()) files.push_back({path, value});
    }
  }
}

// What one field's rule cannot say. `job` has its defaults.
void CheckAcrossFields(const v1::Job& job, Violations& found) {
  const v1::Dataset& data = job.dataset();
  const v1::Training& training = job.training();
  if (data.validation_strategy() == v1::Dataset::CUSTOM && data.validation_dataframe().empty()) {
    found.push_back({"dataset.validation_dataframe", "is required by validation_strategy: CUSTOM"});
  }
  if (data.validation_strategy() == v1::Dataset::AUTOMATIC && !data.validation_dataframe().empty()) {
    found.push_back({"dataset.validation_dataframe",
                     absl::StrCat(Shown(data.validation_dataframe()),
                                  " would not be used: set validation_strategy: CUSTOM, or leave it out")});
  }
  if (training.max_steps() > 0 && training.warmup_steps() > training.max_steps()) {
    found.push_back({"training.warmup_steps",
                     absl::StrCat(training.warmup_steps(), " is more than max_steps, ", training.max_steps())});
  }
  if (job.export_().format() == v1::Export::ADAPTER && !training.lora()) {
    found.push_back({"export.format", "ADAPTER needs training.lora: true; full fine-tuning exports MODEL"});
  }
  if (!job.architecture().pretrained_adapter().empty() && !training.lora()) {
    found.push_back({"architecture.pretrained_adapter", "needs training.lora: true"});
  }
  for (const PlatformProblem& problem : NeverWorks(job)) found.push_back({problem.field, problem.message});
  const double global =
      static_cast<double>(training.batch_size()) * training.grad_accumulation() * job.resources().devices();
  if (global > std::numeric_limits<int32_t>::max()) {
    found.push_back({"training.batch_size",
                     absl::StrCat("batch_size ", training.batch_size(), " × grad_accumulation ",
                                  training.grad_accumulation(), " × devices ", job.resources().devices(), " is ",
                                  ShortNumber(global), " rows; at most ", std::numeric_limits<int32_t>::max())});
  }
  if (job.labels_size() > 64) {
    found.push_back({"labels", absl::StrCat("has ", job.labels_size(), " entries; accepted: at most 64")});
  }
  for (const auto& [key, value] : job.labels()) {
    v1::FieldRule rule;
    rule.set_max(256);
    CheckString(rule, value, absl::StrCat("labels.", absl::CHexEscape(key.substr(0, 60))), found);
    rule.set_plain_name(true);
    rule.set_max(64);
    if (key.empty()) found.push_back({"labels", "a label's name may not be empty"});
    CheckString(rule, key, "labels", found);
  }
}

}  // namespace

std::string ShortNumber(double value) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof(text), value);
  return std::string(text, end.ptr);
}

std::string DescribeRange(const v1::FieldRule& rule) {
  std::vector<std::string> parts;
  if (rule.has_min()) parts.push_back(absl::StrCat(rule.exclusive_min() ? "above " : "from ", ShortNumber(rule.min())));
  if (rule.has_max())
    parts.push_back(
        absl::StrCat(rule.has_min() && !rule.exclusive_min() ? "to " : "at most ", ShortNumber(rule.max())));
  return absl::StrJoin(parts, rule.exclusive_min() ? ", " : " ");
}

v1::Job WithDefaults(v1::Job job) {
  FillDefaults(job);
  return job;
}

std::vector<NamedFile> NamedFiles(const v1::Job& job) {
  std::vector<NamedFile> files;
  CollectFiles(job, "", files);
  return files;
}

void SetNamedFile(v1::Job& job, const std::string& field, std::string value) {
  Message* message = &job;
  std::vector<std::string> path = absl::StrSplit(field, '.');
  const std::string last = std::move(path.back());
  path.pop_back();
  for (const std::string& section : path) {
    message = message->GetReflection()->MutableMessage(message, message->GetDescriptor()->FindFieldByName(section));
  }
  message->GetReflection()->SetString(message, message->GetDescriptor()->FindFieldByName(last), std::move(value));
}

std::vector<Violation> FindViolations(const v1::Job& job) {
  Violations found;
  const v1::Job full = WithDefaults(job);
  CheckMessage(full, "", found);
  CheckAcrossFields(full, found);
  return found;
}

absl::Status Validate(const v1::Job& job) {
  std::vector<std::string> lines;
  for (const Violation& violation : FindViolations(job)) {
    lines.push_back(absl::StrCat(violation.field, ": ", violation.message));
  }
  return lines.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

}  // namespace studio
