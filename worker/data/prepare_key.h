// Everything that decides the contents of prepared data, as text: its SHA-256 names the folder.
#pragma once

#include <string>

#include "proto/studio/v1/job.pb.h"

namespace studio {

struct KeyParts {
  std::string train_sha256;
  // Empty where the validation rows come out of the training file.
  std::string validation_sha256;
  std::string tokenizer_sha256;
  std::string chat_template;
  // "bos_token", … as the template sees them, joined.
  std::string special_tokens;
  int64_t max_length = 0;
  int64_t vocab_size = 0;
};

// One "name value" per line. Texts are written as JSON, so that no value can look like another line. Settings that do
// not change the contents (numbers of threads, learning rates) are left out: jobs that differ in them share a folder.
std::string PrepareKeyText(const v1::Job& job, const KeyParts& parts);

}  // namespace studio
