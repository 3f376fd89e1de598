// Which rows are held out and which are used: drawn with the seed, exact in number, the same on every machine.
//
//   RowSelection chosen = SelectRows(usable, {.seed = 1, .validation_size = 0.05, .data_sample = 1});
//   chosen.use[row] == RowUse::kTrain
#pragma once

#include <cstdint>
#include <vector>

namespace studio {

enum class RowUse : uint8_t { kUnused, kTrain, kValidation };

struct SplitOptions {
  uint64_t seed = 1;
  // Share held out. Above 0 it holds out at least one of two or more rows, and leaves at least one.
  double validation_size = 0;
  // Share of the others that is used; at least one.
  double data_sample = 1;
};

// usable: whether each row of the file has an answer. The result is as long.
std::vector<RowUse> SelectRows(const std::vector<bool>& usable, const SplitOptions& options);

}  // namespace studio
