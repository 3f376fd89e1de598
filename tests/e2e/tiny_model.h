// A model folder that is small enough to train in a second: a random Llama and a byte-level tokenizer.
//
//   ASSERT_OK(WriteTinyModel(folder + "/model"));        // no weights: jobs say `architecture { pretrained: false }`
//   ASSERT_OK(WriteRows(folder + "/rows.jsonl", 40));
#pragma once

#include <string>

#include "absl/status/status.h"

namespace studio {

// config.json (2 layers, hidden size 32, grouped heads, context 256) and tokenizer.json (256 bytes, 4 special tokens).
absl::Status WriteTinyModel(const std::string& folder);

// Alpaca rows: sums of small numbers, which a tiny model can learn something of.
absl::Status WriteRows(const std::string& path, int rows);

absl::Status WriteText(const std::string& path, const std::string& text);

}  // namespace studio
