// For tests of parity: a model folder's ids of texts, or of rendered conversations.
//
//   tokenize_tool MODEL_DIR [--special] < texts.jsonl > ids.jsonl        each line: a JSON string → a list of ids
//   tokenize_tool MODEL_DIR --chat < conversations.jsonl > texts.jsonl   each line: {"messages", "tools"?,
//                                                      "add_generation_prompt"?} → the rendered text as a JSON string
#include <iostream>
#include <string>

#include "common/status/macros.h"
#include "worker/data/chat_template.h"
#include "worker/data/json_file.h"
#include "worker/data/tokenizer.h"

namespace studio {
namespace {

absl::StatusOr<Json> Answer(const Json& input, bool chat, bool special, const ChatTemplate& chat_template,
                            const Tokenizer& tokenizer) {
  if (chat) {
    return chat_template.Render(input.value("messages", Json::array()), input.value("tools", Json()),
                                input.value("add_generation_prompt", false));
  }
  if (!input.is_string()) return absl::InvalidArgumentError("a line holds no JSON string");
  return tokenizer.Encode(input.get<std::string>(), special);
}

absl::Status Run(const std::string& model_dir, bool chat, bool special) {
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(model_dir));
  ASSIGN_OR_RETURN(ChatTemplate chat_template, ChatTemplate::Load(model_dir, tokenizer, ""));
  for (std::string line; std::getline(std::cin, line);) {
    ASSIGN_OR_RETURN(Json input, ParseJson(line, "stdin"));
    ASSIGN_OR_RETURN(Json answer, Answer(input, chat, special, chat_template, tokenizer));
    std::cout << Dump(answer) << "\n";
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  const std::string flag = argc > 2 ? argv[2] : "";
  if (argc < 2 || argc > 3 || !(flag.empty() || flag == "--special" || flag == "--chat")) {
    std::cerr << "usage: tokenize_tool MODEL_DIR [--special | --chat]\n";
    return 2;
  }
  const absl::Status status = studio::Run(argv[1], flag == "--chat", flag == "--special");
  if (!status.ok()) std::cerr << status.message() << "\n";
  return status.ok() ? 0 : 65;
}
