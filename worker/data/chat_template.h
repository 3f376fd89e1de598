// Renders conversations to text as the model's own chat template says.
//
//   ASSIGN_OR_RETURN(ChatTemplate chat, ChatTemplate::Load("/models/smollm2", tokenizer, /*override_source=*/""));
//   ASSIGN_OR_RETURN(std::string text, chat.Render(messages, tools, /*add_generation_prompt=*/true));
//
// The source is, in this order: the job's own, the model folder's chat_template.jinja, "chat_template" of
// tokenizer_config.json (a text, or a list of named ones, of which "default" is taken), ChatML. Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/json_file.h"
#include "worker/data/tokenizer.h"

struct hf_template;  // third_party/hf

namespace studio {

class ChatTemplate {
 public:
  // InvalidArgument where the source is not a template, with its line.
  static absl::StatusOr<ChatTemplate> Load(const std::string& model_dir, const Tokenizer& tokenizer,
                                           const std::string& override_source);

  // messages: a list of {"role", "content", …}; tools: a list, or null for none. add_generation_prompt: end with what
  // the model's answer follows. InvalidArgument with the template's own words where it refuses the conversation.
  absl::StatusOr<std::string> Render(const Json& messages, const Json& tools, bool add_generation_prompt) const;

  const std::string& source() const { return source_; }
  // Where the source comes from, for people: "the job", "tokenizer_config.json", "ChatML (the model has none)".
  const std::string& origin() const { return origin_; }

 private:
  struct Free {
    void operator()(hf_template* compiled) const;
  };
  ChatTemplate() = default;

  std::unique_ptr<hf_template, Free> compiled_;
  std::string source_;
  std::string origin_;
  // The special tokens, as the templates name them.
  Json context_;
};

}  // namespace studio
