#include "worker/trainer/planned/attention_chooser.h"

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace studio::planned {
namespace {

std::string Describe(const AttentionKey& key) {
  return absl::StrCat(key.tokens, " tokens in ", key.one_length ? "sequences of " : "packed rows of up to ",
                      key.longest, ", ", key.heads, " heads (", key.kv_heads, " of keys) of ", key.head_dim, ", ",
                      key.dtype);
}

}  // namespace

AttentionKind AttentionChooser::Choose(const AttentionKey& key, const Measure& measure) {
  if (const auto known = chosen_.find(key); known != chosen_.end()) return known->second;
  const std::vector<AttentionKind> candidates = AttentionCandidates(key.one_length, key.head_dim);
  // Packed rows come in a new shape each time: nothing is kept of them.
  if (candidates.size() == 1) return candidates.front();
  return chosen_[key] = FirstTime(key, candidates, measure);
}

AttentionKind AttentionChooser::FirstTime(const AttentionKey& key, const std::vector<AttentionKind>& candidates,
                                          const Measure& measure) {
  AttentionFigures figures = Known(key, candidates);
  const bool known = !figures.empty();
  if (!known) figures = Measured(candidates, measure);
  if (figures.empty()) return candidates.front();
  const AttentionKind fastest = Fastest(figures);
  log_(absl::StrCat("attention of ", Describe(key), ": ", NameOf(fastest), "; forward and backward ",
                    DescribeFigures(figures), known ? " (measured earlier)" : ""));
  if (known || figures.size() < candidates.size()) return fastest;
  if (const absl::Status stored = table_.Store(key, figures); !stored.ok()) {
    log_(absl::StrCat("attention's figures are not kept, the next run measures again: ", stored.message()));
  }
  return fastest;
}

AttentionFigures AttentionChooser::Known(const AttentionKey& key, const std::vector<AttentionKind>& candidates) {
  const absl::StatusOr<AttentionFigures> figures = table_.Find(key);
  if (!figures.ok()) {
    if (!absl::IsNotFound(figures.status())) {
      log_(absl::StrCat("attention is measured again: ", figures.status().message()));
    }
    return {};
  }
  // Another version's file may have other candidates.
  const bool all = figures->size() == candidates.size() &&
                   std::ranges::all_of(candidates, [&](AttentionKind kind) { return figures->contains(kind); });
  return all ? *figures : AttentionFigures();
}

AttentionFigures AttentionChooser::Measured(const std::vector<AttentionKind>& candidates, const Measure& measure) {
  AttentionFigures figures;
  for (const AttentionKind kind : candidates) {
    const absl::StatusOr<double> microseconds = measure(kind);
    if (microseconds.ok()) {
      figures[kind] = *microseconds;
    } else {
      log_(absl::StrCat("attention by ", NameOf(kind), " could not be measured: ", microseconds.status().message()));
    }
  }
  return figures;
}

}  // namespace studio::planned
