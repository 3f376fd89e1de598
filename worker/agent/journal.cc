#include "worker/agent/journal.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/env/failpoint.h"
#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio::worker {
namespace {

constexpr size_t kHeaderBytes = 8;
// Far above any record: an Assign holds a job and the hashes of its files.
constexpr uint32_t kMaxRecordBytes = 64 << 20;

// CRC-32 of IEEE 802.3, reflected, as zlib computes it.
uint32_t Crc32(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? 0xedb88320u ^ (value >> 1) : value >> 1;
      table[i] = value;
    }
    return table;
  }();
  uint32_t crc = 0xffffffffu;
  for (const char byte : bytes) crc = kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

void PutFixed32(uint32_t value, std::string& out) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(value >> shift));
}

uint32_t GetFixed32(std::string_view bytes) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= uint32_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  return value;
}

std::string Encode(const JournalRecord& record) {
  const std::string body = record.SerializeAsString();
  std::string bytes;
  PutFixed32(static_cast<uint32_t>(body.size()), bytes);
  PutFixed32(Crc32(body), bytes);
  return bytes + body;
}

std::string NameOf(const JournalRecord& record) {
  switch (record.record_case()) {
    case JournalRecord::kAssigned:
      return "assigned";
    case JournalRecord::kAcknowledged:
      return "acknowledged";
    case JournalRecord::kEnded:
      return "ended";
    default:
      break;
  }
  const v1::WorkerUp& up = record.event().message();
  return up.has_attempt() ? v1::AttemptState_Name(up.attempt().state()) : "checkpoint";
}

// The fewest records that add up to `state`.
std::string Compacted(const JournalState& state) {
  std::string bytes;
  JournalRecord record;
  for (const auto& [unused, assign] : state.attempts) {
    *record.mutable_assigned() = assign;
    bytes += Encode(record);
  }
  for (const auto& [id, message] : state.events) {
    record.mutable_event()->set_id(id);
    *record.mutable_event()->mutable_message() = message;
    bytes += Encode(record);
  }
  record.set_acknowledged(state.last_event_id);  // keeps ids from being given twice
  if (state.last_event_id > 0 && state.events.count(state.last_event_id) == 0) bytes += Encode(record);
  return bytes;
}

}  // namespace

AttemptId IdOf(const v1::AttemptKey& key) { return {key.job_id(), key.attempt(), key.epoch()}; }

void JournalState::Apply(const JournalRecord& record) {
  switch (record.record_case()) {
    case JournalRecord::kAssigned:
      attempts[IdOf(record.assigned().key())] = record.assigned();
      break;
    case JournalRecord::kEvent:
      if (record.event().id() <= 0) break;  // never written
      events[record.event().id()] = record.event().message();
      last_event_id = std::max(last_event_id, record.event().id());
      break;
    case JournalRecord::kAcknowledged:
      events.erase(record.acknowledged());
      last_event_id = std::max(last_event_id, record.acknowledged());
      break;
    case JournalRecord::kEnded:
      attempts.erase(IdOf(record.ended()));
      break;
    case JournalRecord::RECORD_NOT_SET:  // of a later version
      break;
  }
}

size_t ReplayJournal(std::string_view bytes, JournalState& state) {
  size_t used = 0;
  JournalRecord record;
  while (bytes.size() - used >= kHeaderBytes) {
    const std::string_view rest = bytes.substr(used);
    const uint32_t length = GetFixed32(rest);
    if (length > kMaxRecordBytes || rest.size() - kHeaderBytes < length) break;
    const std::string_view body = rest.substr(kHeaderBytes, length);
    if (GetFixed32(rest.substr(4)) != Crc32(body)) break;
    if (!record.ParseFromArray(body.data(), static_cast<int>(body.size()))) break;
    // A run of zeros is what a file system may leave in a torn tail: it is an empty record with the right checksum.
    if (length == 0) break;
    state.Apply(record);
    used += kHeaderBytes + length;
  }
  return used;
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(Env& env, const std::string& path, int64_t compact_bytes) {
  std::unique_ptr<Journal> journal(new Journal(env, path, compact_bytes));
  if (env.Exists(path)) {
    ASSIGN_OR_RETURN(const std::string bytes, env.ReadFile(path));
    const size_t used = ReplayJournal(bytes, journal->recovered_);
    journal->dropped_bytes_ = static_cast<int64_t>(bytes.size() - used);
  }
  journal->state_ = journal->recovered_;
  RETURN_IF_ERROR(journal->Compact());
  return journal;
}

absl::Status Journal::Compact() {
  const std::string bytes = Compacted(state_);
  RETURN_IF_ERROR(env_.WriteFile(path_, bytes));
  ASSIGN_OR_RETURN(file_, env_.OpenAppend(path_));
  bytes_ = static_cast<int64_t>(bytes.size());
  compact_at_ = std::max(compact_bytes_, 2 * bytes_);
  return absl::OkStatus();
}

absl::Status Journal::Append(const JournalRecord& record) {
  unsynced_ = FailpointsSet() ? NameOf(record) : "a record";
  if (FailpointsSet()) Failpoint(absl::StrCat("worker.", unsynced_, ".before"));
  const std::string bytes = Encode(record);
  RETURN_IF_ERROR(file_->Append(bytes));
  bytes_ += static_cast<int64_t>(bytes.size());
  state_.Apply(record);
  return bytes_ > compact_at_ ? Compact() : absl::OkStatus();
}

absl::Status Journal::Sync() {
  if (unsynced_.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(file_->Sync());
  if (FailpointsSet()) Failpoint(absl::StrCat("worker.", unsynced_, ".synced"));
  unsynced_.clear();
  return absl::OkStatus();
}

}  // namespace studio::worker
