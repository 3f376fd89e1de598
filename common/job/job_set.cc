// ApplySet of job_text.h.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/job/job_text.h"
#include "common/job/names.h"
#include "common/status/macros.h"

namespace studio {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string& message) override {
    if (text.empty()) text = message;
  }
  void AddWarning(int, int, const std::string&) override {}
  std::string text;
};

absl::Status Refused(absl::string_view path, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--set ", path, ": ", why));
}

std::string Kind(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return "a number";
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64:
      return "a whole number from 0";
    case FieldDescriptor::CPPTYPE_ENUM:
      return absl::StrCat("one of ", absl::StrJoin(ValueNames(*field.enum_type()), ", "));
    case FieldDescriptor::CPPTYPE_STRING:
      return "a string";
    default:
      return "a whole number";
  }
}

// Sets a list written as ["a", "b"]. Parsed apart, so that nothing but the field can be set.
absl::Status SetList(Message& message, const FieldDescriptor& field, absl::string_view value, absl::string_view path) {
  const std::unique_ptr<Message> scratch(message.New());
  FirstError error;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  std::vector<const FieldDescriptor*> set;
  if (parser.ParseFromString(absl::StrCat(field.name(), ": ", value), scratch.get())) {
    scratch->GetReflection()->ListFields(*scratch, &set);
  }
  if (set.size() > 1 || (set.size() == 1 && set[0] != &field) || !error.text.empty()) {
    return Refused(path, absl::StrCat("'", value, "' is not a list such as [\"a\", \"b\"]"));
  }
  message.MergeFrom(*scratch);
  return absl::OkStatus();
}

// Sets (or, for a repeated field, appends) a value in text form.
absl::Status SetText(Message& message, const FieldDescriptor& field, const std::string& text, absl::string_view path,
                     absl::string_view written) {
  FirstError error;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (parser.ParseFieldValueFromString(text, &field, &message)) return absl::OkStatus();
  return Refused(path, absl::StrCat("'", written, "' is not ", Kind(field)));
}

void SetString(Message& message, const FieldDescriptor& field, absl::string_view value) {
  if (field.is_repeated()) {
    message.GetReflection()->AddString(&message, &field, std::string(value));
  } else {
    message.GetReflection()->SetString(&message, &field, std::string(value));
  }
}

absl::Status SetValue(Message& message, const FieldDescriptor& field, absl::string_view value, absl::string_view path) {
  const bool is_string = field.cpp_type() == FieldDescriptor::CPPTYPE_STRING;
  const bool text_form = absl::StartsWith(value, "\"") || absl::StartsWith(value, "'");
  if (is_string && !field.is_repeated() && !text_form) {
    SetString(message, field, value);
    return absl::OkStatus();
  }
  message.GetReflection()->ClearField(&message, &field);
  if (field.is_repeated() && absl::StartsWith(value, "[")) return SetList(message, field, value, path);
  if (!field.is_repeated() || text_form) return SetText(message, field, std::string(value), path, value);
  if (value.empty()) return absl::OkStatus();
  for (absl::string_view part : absl::StrSplit(value, ',')) {
    if (is_string) {
      SetString(message, field, part);
    } else {
      RETURN_IF_ERROR(SetText(message, field, std::string(part), path, part));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplySet(v1::Job& job, absl::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == absl::string_view::npos || equals == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set ", assignment, ": expected FIELD=VALUE, as in training.learning_rate=1e-4"));
  }
  const absl::string_view path = assignment.substr(0, equals);
  const absl::string_view value = assignment.substr(equals + 1);
  if (absl::StartsWith(path, "labels.") && path.size() > 7) {
    (*job.mutable_labels())[std::string(path.substr(7))] = std::string(value);
    return absl::OkStatus();
  }
  Message* message = &job;
  const std::vector<std::string> parts = absl::StrSplit(path, '.');
  for (size_t i = 0; i < parts.size(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(parts[i]);
    if (field == nullptr) {
      return Refused(path, absl::StrCat("there is no field '", parts[i], "'",
                                        SuggestField(parts[i], *message->GetDescriptor(), v1::Job::descriptor())));
    }
    const bool last = i + 1 == parts.size();
    if (field->is_map()) return Refused(path, "give the label's name too, as in labels.team=search");
    if (field->message_type() != nullptr) {
      if (last) {
        return Refused(path, absl::StrCat("this is a section; set a field of it: ",
                                          absl::StrJoin(FieldNames(*field->message_type()), ", ")));
      }
      message = message->GetReflection()->MutableMessage(message, field);
    } else if (!last) {
      return Refused(path, absl::StrCat("'", parts[i], "' has no fields of its own"));
    } else {
      return SetValue(*message, *field, value, path);
    }
  }
  return absl::OkStatus();
}

}  // namespace studio
