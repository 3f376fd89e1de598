#include "worker/data/split.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "worker/data/counter_hash.h"

namespace studio {
namespace {

// Moves the `count` rows that the channel draws to the front.
void Draw(std::vector<uint64_t>& rows, size_t count, uint64_t seed, DataChannel channel) {
  auto key = [&](uint64_t row) { return std::pair(CounterHash(seed, channel, row), row); };
  if (count == 0 || count >= rows.size()) return;
  std::nth_element(rows.begin(), rows.begin() + static_cast<int64_t>(count), rows.end(),
                   [&](uint64_t a, uint64_t b) { return key(a) < key(b); });
}

size_t Share(double share, size_t of) { return static_cast<size_t>(std::llround(share * static_cast<double>(of))); }

}  // namespace

std::vector<RowUse> SelectRows(const std::vector<bool>& usable, const SplitOptions& options) {
  std::vector<uint64_t> rows;
  for (size_t i = 0; i < usable.size(); ++i) {
    if (usable[i]) rows.push_back(i);
  }
  std::vector<RowUse> use(usable.size(), RowUse::kUnused);
  if (rows.empty()) return use;

  size_t held_out = 0;
  if (options.validation_size > 0 && rows.size() > 1) {
    held_out = std::clamp<size_t>(Share(options.validation_size, rows.size()), 1, rows.size() - 1);
  }
  Draw(rows, held_out, options.seed, DataChannel::kValidationSplit);
  for (size_t i = 0; i < held_out; ++i) use[rows[i]] = RowUse::kValidation;
  rows.erase(rows.begin(), rows.begin() + static_cast<int64_t>(held_out));

  const size_t used = std::clamp<size_t>(Share(options.data_sample, rows.size()), 1, rows.size());
  Draw(rows, used, options.seed, DataChannel::kDataSample);
  for (size_t i = 0; i < used; ++i) use[rows[i]] = RowUse::kTrain;
  return use;
}

}  // namespace studio
