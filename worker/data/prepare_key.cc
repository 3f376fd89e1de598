#include "worker/data/prepare_key.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/artifact/sha256.h"
#include "worker/data/json_file.h"

namespace studio {
namespace {

// Goes up with every change of what is prepared from the same input, also where the file format stays.
constexpr int kVersion = 1;

// The ending says how a file is read, and is not part of its bytes.
std::string Ending(const std::string& path) { return absl::AsciiStrToLower(path.substr(path.rfind('.') + 1)); }

class Lines {
 public:
  void Add(absl::string_view name, const std::string& value) { absl::StrAppend(&text_, name, " ", Dump(value), "\n"); }
  void Add(absl::string_view name, int64_t value) { absl::StrAppend(&text_, name, " ", value, "\n"); }
  // Every bit of it.
  void Add(absl::string_view name, double value) { absl::StrAppend(&text_, name, absl::StrFormat(" %.17g\n", value)); }
  std::string text() && { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace

std::string PrepareKeyText(const v1::Job& job, const KeyParts& parts) {
  const v1::Dataset& dataset = job.dataset();
  Lines lines;
  lines.Add("version", int64_t{kVersion});
  lines.Add("train", parts.train_sha256);
  lines.Add("train_ending", Ending(dataset.train_dataframe()));
  lines.Add("validation", parts.validation_sha256);
  if (!parts.validation_sha256.empty()) lines.Add("validation_ending", Ending(dataset.validation_dataframe()));
  lines.Add("tokenizer", parts.tokenizer_sha256);
  lines.Add("chat_template", Sha256Hex(parts.chat_template));
  lines.Add("special_tokens", parts.special_tokens);
  lines.Add("seed", absl::StrCat(job.environment().seed()));
  lines.Add("validation_strategy", int64_t{dataset.validation_strategy()});
  lines.Add("validation_size", dataset.validation_size());
  lines.Add("data_sample", dataset.data_sample());
  lines.Add("format", int64_t{dataset.format()});
  lines.Add("system_column", dataset.system_column());
  for (const std::string& column : dataset.prompt_column()) lines.Add("prompt_column", column);
  lines.Add("prompt_column_separator", dataset.prompt_column_separator());
  lines.Add("answer_column", dataset.answer_column());
  lines.Add("messages_column", dataset.messages_column());
  lines.Add("mask_prompt_labels", int64_t{dataset.mask_prompt_labels()});
  lines.Add("only_last_answer", int64_t{dataset.only_last_answer()});
  lines.Add("packing", int64_t{dataset.packing()});
  lines.Add("max_length", parts.max_length);
  lines.Add("vocab_size", parts.vocab_size);
  return std::move(lines).text();
}

}  // namespace studio
