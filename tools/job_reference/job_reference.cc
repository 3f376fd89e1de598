// Writes docs/job_reference.md from the comments and rules of job.proto: the reference cannot say anything else than
// what the programs do.
//
//   job_reference DESCRIPTOR_SET EXAMPLE.pb.txt > docs/job_reference.md
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/job/job_rules.h"
#include "proto/studio/v1/job.pb.h"
#include "proto/studio/v1/rules.pb.h"

namespace studio {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::FileDescriptorProto;
using google::protobuf::FileDescriptorSet;
using google::protobuf::SourceLocation;

std::string OneLine(const std::string& comment) {
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(comment, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (!line.empty()) lines.emplace_back(line);
  }
  return absl::StrJoin(lines, " ");
}

// The same descriptors as the program's own, built from source, so that they know the comments before them.
using Comments = DescriptorPool;

template <typename Thing>
std::string CommentBefore(const Thing* thing) {
  SourceLocation location;
  return thing != nullptr && thing->GetSourceLocation(&location) ? OneLine(location.leading_comments) : "";
}

std::string CommentOf(const Comments& comments, const Descriptor& message) {
  return CommentBefore(comments.FindMessageTypeByName(message.full_name()));
}
std::string CommentOf(const Comments& comments, const FieldDescriptor& field) {
  return CommentBefore(comments.FindFieldByName(field.full_name()));
}
std::string CommentOf(const Comments& comments, const EnumDescriptor& values) {
  return CommentBefore(comments.FindEnumTypeByName(values.full_name()));
}
std::string CommentOf(const Comments& comments, const EnumValueDescriptor& value) {
  return CommentBefore(comments.FindEnumValueByName(value.full_name()));
}

// What stands at the head of the file.
std::string CommentOf(const Comments& comments, const FileDescriptor& file) {
  SourceLocation location;
  const FileDescriptor* found = comments.FindFileByName(file.name());
  const std::vector<int> syntax = {FileDescriptorProto::kSyntaxFieldNumber};
  return found != nullptr && found->GetSourceLocation(syntax, &location) ? OneLine(location.leading_comments) : "";
}

std::string Cell(const std::string& text) { return absl::StrReplaceAll(text, {{"|", "\\|"}}); }

std::string TypeOf(const FieldDescriptor& field, const v1::FieldRule& rule) {
  std::string type;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      type = "true or false";
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      type = "number";
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      type = field.enum_type()->name();
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      type = rule.artifact() ? "path or URI" : "string";
      break;
    default:
      type = "whole number";
  }
  if (!rule.unit().empty()) absl::StrAppend(&type, ", ", rule.unit());
  return field.is_repeated() ? absl::StrCat("list of ", type, "s") : type;
}

std::string DefaultOf(const FieldDescriptor& field, const v1::FieldRule& rule) {
  if (rule.required()) return "required";
  if (!rule.default_().empty()) return absl::StrCat("`", rule.default_(), "`");
  if (field.enum_type() != nullptr) return absl::StrCat("`", field.enum_type()->value(0)->name(), "`");
  return "unset";
}

std::string AcceptedOf(const FieldDescriptor& field, const v1::FieldRule& rule) {
  std::vector<std::string> parts;
  if (const std::string range = DescribeRange(rule); !range.empty()) {
    parts.push_back(field.is_repeated()                                   ? absl::StrCat(range, " elements")
                    : field.cpp_type() == FieldDescriptor::CPPTYPE_STRING ? absl::StrCat(range, " bytes")
                                                                          : range);
  }
  if (rule.plain_name()) parts.push_back("letters, digits, `.`, `_`, `-`");
  if (!rule.one_of().empty()) parts.push_back(absl::StrJoin(rule.one_of(), ", "));
  return absl::StrJoin(parts, "; ");
}

void PrintFields(const Descriptor& message, const Comments& comments) {
  std::cout << "| Field | Type | Default | Accepted | |\n|---|---|---|---|---|\n";
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (field.message_type() != nullptr && !field.is_map()) continue;
    const v1::FieldRule& rule = field.options().GetExtension(v1::rule);
    std::cout << "| `" << field.name() << "` | "
              << Cell(field.is_map() ? "map of string to string" : TypeOf(field, rule)) << " | "
              << Cell(field.is_map() ? "unset" : DefaultOf(field, rule)) << " | " << Cell(AcceptedOf(field, rule))
              << " | " << Cell(CommentOf(comments, field)) << " |\n";
  }
}

void PrintEnum(const EnumDescriptor& values, const Comments& comments) {
  std::cout << "\n**" << values.name() << "**";
  if (const std::string comment = CommentOf(comments, values); !comment.empty()) std::cout << ": " << comment;
  std::cout << "\n\n";
  for (int i = 0; i < values.value_count(); ++i) {
    std::cout << "- `" << values.value(i)->name() << "`";
    if (const std::string comment = CommentOf(comments, *values.value(i)); !comment.empty()) {
      std::cout << ": " << comment;
    }
    std::cout << "\n";
  }
}

// Enums that a section's fields use, in the order of the fields, each once in the whole page.
void PrintEnums(const Descriptor& message, const Comments& comments, std::vector<const EnumDescriptor*>& printed) {
  for (int i = 0; i < message.field_count(); ++i) {
    const EnumDescriptor* values = message.field(i)->enum_type();
    if (values == nullptr || std::find(printed.begin(), printed.end(), values) != printed.end()) continue;
    printed.push_back(values);
    PrintEnum(*values, comments);
  }
}

int Run(const std::string& set_path, const std::string& example_path) {
  std::ifstream set_file(set_path, std::ios::binary), example_file(example_path);
  FileDescriptorSet set;
  if (!set_file || !set.ParseFromIstream(&set_file) || !example_file) {
    std::cerr << "job_reference: cannot read " << set_path << " or " << example_path << "\n";
    return 1;
  }
  const std::string example((std::istreambuf_iterator<char>(example_file)), {});
  const Descriptor& job = *v1::Job::descriptor();
  Comments comments;
  for (const FileDescriptorProto& file : set.file()) {
    if (comments.BuildFile(file) == nullptr) return 1;  // protobuf said why
  }
  std::vector<const EnumDescriptor*> printed;
  std::cout << "<!-- Generated from proto/studio/v1/job.proto by tools/job_reference/update.sh: change it there. -->\n"
            << "# Job reference\n\n"
            << CommentOf(comments, *job.file()) << "\n\n"
            << "Wherever a file or folder is named, it may be\n\n"
            << "- a path on the machine that submits, relative to the job's file: `studioctl` uploads it, by content;\n"
            << "- `file:/folder/name`: a path under a folder that workers declare shared;\n"
            << "- `job:j3/result`: another job's result.\n\n"
            << "A job that needs more than the defaults:\n\n```textproto\n"
            << example << "```\n\n"
            << "## Top level\n\n";
  PrintFields(job, comments);
  PrintEnums(job, comments, printed);
  for (int i = 0; i < job.field_count(); ++i) {
    const FieldDescriptor& field = *job.field(i);
    if (field.message_type() == nullptr || field.is_map()) continue;
    std::cout << "\n## " << field.name() << "\n\n";
    if (const std::string comment = CommentOf(comments, *field.message_type()); !comment.empty()) {
      std::cout << comment << "\n\n";
    }
    PrintFields(*field.message_type(), comments);
    PrintEnums(*field.message_type(), comments, printed);
  }
  return 0;
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: job_reference DESCRIPTOR_SET EXAMPLE.pb.txt\n";
    return 2;
  }
  return studio::Run(argv[1], argv[2]);
}
