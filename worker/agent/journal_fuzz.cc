// Whatever a disk holds: replaying it ends, and what was used replays to the same again.
#include <cstdint>
#include <string_view>

#include "common/status/check.h"
#include "worker/agent/journal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  studio::worker::JournalState all, prefix;
  const size_t used = studio::worker::ReplayJournal(bytes, all);
  STUDIO_CHECK(used <= size);
  STUDIO_CHECK(studio::worker::ReplayJournal(bytes.substr(0, used), prefix) == used);
  STUDIO_CHECK(prefix.events.size() == all.events.size() && prefix.attempts.size() == all.attempts.size());
  return 0;
}
