#include "common/job/job_text.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/job/names.h"

namespace studio {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;
namespace io = google::protobuf::io;

// As protobuf reports it: counted from 0, a tab up to the next multiple of 8, and often at the token after the culprit.
struct RawError {
  int line = 0;
  int column = 0;
  std::string message;
};

class Collector : public io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (errors.size() < 10) errors.push_back({line, column, message});
  }
  void AddWarning(int, int, const std::string&) override {}
  std::vector<RawError> errors;
};

struct Token {
  int line;
  int column;
  std::string text;
};

// The same tokens that TextFormat's parser sees: these four settings are its own.
std::vector<Token> Tokens(absl::string_view text) {
  io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  Collector ignored;
  io::Tokenizer tokenizer(&stream, &ignored);
  tokenizer.set_allow_f_after_float(true);
  tokenizer.set_comment_style(io::Tokenizer::SH_COMMENT_STYLE);
  tokenizer.set_require_space_after_number(false);
  tokenizer.set_allow_multiline_strings(true);
  std::vector<Token> tokens;
  while (tokenizer.Next()) {
    const io::Tokenizer::Token& token = tokenizer.current();
    tokens.push_back({token.line, token.column, token.text});
  }
  tokens.push_back({tokenizer.current().line, tokenizer.current().column, ""});
  return tokens;
}

// What stands between `before` and the next quote in `message`.
std::optional<std::string> Quoted(const std::string& message, const std::string& before) {
  const size_t start = message.find(before);
  if (start == std::string::npos) return std::nullopt;
  const size_t first = start + before.size();
  const size_t last = message.find('"', first);
  if (last == std::string::npos) return std::nullopt;
  return message.substr(first, last - first);
}

// These are found once the name is read, so protobuf points at the token after it.
std::optional<std::string> NameReadBefore(const std::string& message) {
  for (const char* before : {"has no field named \"", "Unknown enumeration value of \"", "Non-repeated field \""}) {
    if (auto name = Quoted(message, before)) return name;
  }
  return std::nullopt;
}

void PointAtName(absl::string_view text, RawError& error) {
  const std::optional<std::string> name = NameReadBefore(error.message);
  if (!name) return;
  const std::vector<Token> tokens = Tokens(text);
  for (size_t i = 1; i < tokens.size(); ++i) {
    if (tokens[i].line != error.line || tokens[i].column != error.column) continue;
    if (tokens[i - 1].text == *name) {
      error.line = tokens[i - 1].line;
      error.column = tokens[i - 1].column;
    }
    return;
  }
}

// Protobuf's column (bytes, tabs widened) as a count of characters from 1, as editors count.
int EditorColumn(absl::string_view text, const RawError& error) {
  size_t start = 0;
  for (int line = 0; line < error.line; ++line) {
    const size_t end = text.find('\n', start);
    if (end == absl::string_view::npos) return error.column + 1;
    start = end + 1;
  }
  int column = 0, characters = 0;
  for (size_t i = start; i < text.size() && text[i] != '\n' && column < error.column; ++i) {
    column += text[i] == '\t' ? 8 - column % 8 : 1;
    if ((text[i] & 0xC0) != 0x80) ++characters;
  }
  return characters + 1;
}

// The message in our words, with what was probably meant.
std::string Reworded(const std::string& message) {
  const Descriptor& root = *v1::Job::descriptor();
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  if (const auto field = Quoted(message, "has no field named \"")) {
    const Descriptor* type = pool.FindMessageTypeByName(Quoted(message, "Message type \"").value_or(""));
    const bool top = type == nullptr || type == &root;
    return absl::StrCat("unknown field '", *field, "' in ", top ? "the job" : type->name(),
                        SuggestField(*field, top ? root : *type, &root));
  }
  if (const auto value = Quoted(message, "Unknown enumeration value of \"")) {
    const std::string field = Quoted(message, "for field \"").value_or("");
    std::string text = absl::StrCat("unknown value '", *value, "' for ", field);
    // The message does not say which section: names of enum fields are unique among them, or share their values.
    const std::vector<std::string> paths = PathsOf(root, field);
    if (paths.size() == 1) {
      const Descriptor* type = &root;
      const FieldDescriptor* found = nullptr;
      for (size_t at = 0; at <= paths[0].size();) {
        const size_t dot = std::min(paths[0].find('.', at), paths[0].size());
        found = type->FindFieldByName(paths[0].substr(at, dot - at));
        if (found != nullptr && found->message_type() != nullptr) type = found->message_type();
        at = dot + 1;
      }
      if (found != nullptr && found->enum_type() != nullptr) {
        const std::vector<std::string> names = ValueNames(*found->enum_type());
        if (const auto nearest = NearestName(*value, names)) absl::StrAppend(&text, " (did you mean ", *nearest, "?)");
        absl::StrAppend(&text, "; accepted: ", absl::StrJoin(names, ", "));
      }
    }
    return text;
  }
  if (const auto field = Quoted(message, "Non-repeated field \"")) {
    return absl::StrCat("'", *field, "' is given twice: keep one");
  }
  return message;
}

}  // namespace

absl::StatusOr<v1::Job> ParseJobText(absl::string_view text, absl::string_view file_name) {
  if (text.size() > kMaxJobTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat(file_name, ": the job has ", text.size(), " bytes, at most ",
                                                   kMaxJobTextBytes, " are accepted: is this a data file?"));
  }
  v1::Job job;
  Collector collector;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&collector);
  io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  if (parser.Parse(&stream, &job)) return job;
  std::vector<std::string> lines;
  for (RawError& error : collector.errors) {
    PointAtName(text, error);
    lines.push_back(
        absl::StrCat(file_name, ":", error.line + 1, ":", EditorColumn(text, error), ": ", Reworded(error.message)));
  }
  if (lines.empty()) lines.push_back(absl::StrCat(file_name, ": not a job in text form"));
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

}  // namespace studio
