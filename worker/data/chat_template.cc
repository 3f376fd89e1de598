#include "worker/data/chat_template.h"

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "third_party/hf/hf_capi.h"
#include "worker/data/file_io.h"
#include "worker/data/hf_text.h"

namespace studio {
namespace {

constexpr char kChatMl[] =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
constexpr int64_t kMaxTemplateBytes = 1 << 20;

struct Source {
  std::string text;
  std::string origin;
};

// "chat_template" of tokenizer_config.json. Empty where there is none.
absl::StatusOr<std::string> FromConfig(const std::string& path) {
  ASSIGN_OR_RETURN(Json config, ReadJsonObjectIfThere(path));
  auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  std::string first;
  if (found->is_array()) {
    for (const Json& named : *found) {
      if (!named.is_object() || !named.contains("name") || !named.contains("template")) continue;
      if (!named["name"].is_string() || !named["template"].is_string()) continue;
      if (named["name"] == "default") return named["template"].get<std::string>();
      if (first.empty()) first = named["template"].get<std::string>();
    }
  }
  if (!first.empty()) return first;
  return absl::InvalidArgumentError(absl::StrCat(path, ": chat_template is ", Shown(*found),
                                                 ", neither a text nor a list of {\"name\", \"template\"}"));
}

absl::StatusOr<Source> Find(const std::string& model_dir, const std::string& override_source) {
  if (!override_source.empty()) return Source{override_source, "the job's dataset.chat_template"};
  absl::StatusOr<std::string> file = dataprep::ReadFile(model_dir + "/chat_template.jinja", kMaxTemplateBytes);
  if (file.ok()) return Source{*std::move(file), "chat_template.jinja"};
  if (!absl::IsNotFound(file.status())) return file.status();
  ASSIGN_OR_RETURN(std::string own, FromConfig(model_dir + "/tokenizer_config.json"));
  if (!own.empty()) return Source{own, "tokenizer_config.json"};
  return Source{kChatMl, "ChatML (the model folder has no chat template)"};
}

}  // namespace

void ChatTemplate::Free::operator()(hf_template* compiled) const { hf_template_free(compiled); }

absl::StatusOr<ChatTemplate> ChatTemplate::Load(const std::string& model_dir, const Tokenizer& tokenizer,
                                                const std::string& override_source) {
  ASSIGN_OR_RETURN(Source source, Find(model_dir, override_source));
  HfText error;
  ChatTemplate chat;
  chat.compiled_.reset(hf_template_compile(source.text.data(), source.text.size(), error.out()));
  if (chat.compiled_ == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the chat template of ", source.origin, " is not valid Jinja: ", error.view()));
  }
  chat.source_ = source.text;
  chat.origin_ = source.origin;
  chat.context_ = Json::object();
  // Absent ones stay undefined: templates test for them.
  if (!tokenizer.bos().text.empty()) chat.context_["bos_token"] = tokenizer.bos().text;
  if (!tokenizer.eos().text.empty()) chat.context_["eos_token"] = tokenizer.eos().text;
  if (!tokenizer.pad().text.empty()) chat.context_["pad_token"] = tokenizer.pad().text;
  if (!tokenizer.unk().text.empty()) chat.context_["unk_token"] = tokenizer.unk().text;
  return chat;
}

absl::StatusOr<std::string> ChatTemplate::Render(const Json& messages, const Json& tools,
                                                 bool add_generation_prompt) const {
  Json context = context_;
  context["messages"] = messages;
  context["add_generation_prompt"] = add_generation_prompt;
  // As transformers passes them: none rather than absent.
  context["tools"] = tools;
  context["documents"] = nullptr;
  const std::string json = Dump(context);
  HfText text, error;
  if (!hf_template_render(compiled_.get(), json.data(), json.size(), text.out(), error.out())) {
    return absl::InvalidArgumentError(absl::StrCat("the chat template of ", origin_, " refused: ", error.view()));
  }
  return std::string(text.view());
}

}  // namespace studio
