#include "studioctl/print.h"

#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/status/check.h"
#include "studioctl/text.h"

namespace studio::ctl {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string Since(const google::protobuf::Timestamp& time, absl::Time now) {
  return time.seconds() == 0 ? "-" : HumanDuration(now - FromTimestamp(time));
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : Printable(text); }

std::string StepText(const v1::JobRecord& record) {
  const v1::Progress& progress = record.progress();
  if (progress.step() == 0 && progress.total_steps() == 0) return "-";
  return progress.total_steps() > 0 ? absl::StrCat(progress.step(), "/", progress.total_steps())
                                    : absl::StrCat(progress.step());
}

std::string WorkersOf(const v1::JobRecord& record) {
  if (record.attempts().empty()) return "-";
  std::vector<std::string> ids;
  for (const v1::RankAssignment& rank : record.attempts().rbegin()->ranks()) {
    if (ids.empty() || ids.back() != rank.worker_id()) ids.push_back(rank.worker_id());
  }
  return ids.empty() ? "-" : absl::StrJoin(ids, ",");
}

std::vector<std::string> JobRow(const v1::JobRecord& record, bool wide, absl::Time now) {
  const bool has_loss = record.progress().step() > 0;
  std::vector<std::string> row = {record.id(),
                                  Printable(record.job().name()),
                                  StateText(record),
                                  StepText(record),
                                  has_loss ? absl::StrFormat("%.4f", record.progress().loss()) : "-",
                                  Since(record.submit_time(), now)};
  if (wide) {
    row.push_back(absl::StrCat(record.attempts_size()));
    row.push_back(WorkersOf(record));
    row.push_back(has_loss ? HumanCount(record.progress().tokens_per_second()) : "-");
    row.push_back(has_loss ? HumanBytes(record.progress().peak_memory_bytes()) : "-");
    row.push_back(Printable(record.owner()));
    row.push_back(Printable(record.message()));
  }
  return row;
}

// One job, field by field: what `get` shows.
std::string Describe(const v1::JobRecord& record, absl::Time now) {
  Rows rows = {{"Job", absl::StrCat(record.id(), " (", Printable(record.job().name()), ")")},
               {"State", StateText(record)}};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty() && value != "-") rows.push_back({name, value});
  };
  add("Message", Printable(record.message()));
  add("Owner", Printable(record.owner()));
  add("Retry of", record.parent_id());
  add("Submitted", LocalTime(record.submit_time()));
  add("Started", LocalTime(record.start_time()));
  add("Ended", LocalTime(record.end_time()));
  if (record.start_time().seconds() > 0) {
    const absl::Time end = record.end_time().seconds() > 0 ? FromTimestamp(record.end_time()) : now;
    add("Took", HumanDuration(end - FromTimestamp(record.start_time())));
  }
  add("Step", StepText(record));
  if (record.progress().step() > 0) {
    add("Loss", absl::StrFormat("%.4f", record.progress().loss()));
    if (record.progress().tokens_per_second() > 0) {
      add("Speed", absl::StrCat(HumanCount(record.progress().tokens_per_second()), " tokens/s"));
    }
    // Of a job that ended it would be the last second's.
    if (record.progress().utilization() > 0 && record.state() == v1::RUNNING) {
      add("Utilization", absl::StrFormat("%.0f %%", 100 * record.progress().utilization()));
    }
    if (record.progress().peak_memory_bytes() > 0) {
      add("Peak memory", HumanBytes(static_cast<double>(record.progress().peak_memory_bytes())));
    }
  }
  for (const v1::Evaluation& evaluation : record.evaluations()) {
    add("Held-out", absl::StrFormat("loss %.4f at step %d", evaluation.loss(), evaluation.step()));
  }
  if (record.data().rows() > 0) {
    add("Data", absl::StrFormat("%d rows, %s tokens, %d truncated", record.data().rows(),
                                HumanCount(static_cast<double>(record.data().tokens())), record.data().truncated()));
  }
  if (record.checkpoint().step() > 0) add("Checkpoint", absl::StrCat("step ", record.checkpoint().step()));
  for (const v1::Attempt& attempt : record.attempts()) {
    std::string text = absl::StrCat(attempt.number(), ": ", AttemptStateText(attempt.state()));
    if (attempt.reason() != v1::REASON_UNSPECIFIED)
      absl::StrAppend(&text, " (", v1::Reason_Name(attempt.reason()), ")");
    if (!attempt.message().empty()) absl::StrAppend(&text, ", ", Printable(attempt.message()));
    add("Attempt", text);
  }
  for (const std::string& note : record.notes()) add("Note", Printable(note));
  if (record.result().files_size() > 0) {
    add("Result", absl::StrCat(record.result().files_size(), " files; studioctl download ", record.id()));
  } else {
    add("Result", record.result().uri());
  }
  return Table(rows);
}

template <typename Records>
std::string JsonArray(const Records& records) {
  std::vector<std::string> parts;
  parts.reserve(records.size());
  for (const auto& record : records) parts.push_back(ToJson(record));
  return absl::StrCat("[", absl::StrJoin(parts, ","), "]");
}

}  // namespace

std::string StateText(const v1::JobRecord& record) {
  std::string text = v1::JobState_Name(record.state());
  if (record.state() == v1::RUNNING && !record.attempts().empty()) {
    const v1::Attempt& attempt = *record.attempts().rbegin();
    // RUNNING says enough of a running one; PREPARING, STARTING and UNKNOWN say more.
    if (attempt.state() != v1::ATTEMPT_RUNNING) {
      absl::StrAppend(&text, " (", AttemptStateText(attempt.state()), ")");
    }
  } else if (record.state() == v1::FAILED && record.reason() != v1::REASON_UNSPECIFIED) {
    absl::StrAppend(&text, " (", v1::Reason_Name(record.reason()), ")");
  }
  return text;
}

std::string AttemptStateText(v1::AttemptState state) {
  const std::string name = v1::AttemptState_Name(state);
  // A newer controller may know states that this program has no name for.
  return name.empty() ? absl::StrCat("state ", static_cast<int>(state)) : name.substr(sizeof("ATTEMPT_") - 1);
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.add_whitespace = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  STUDIO_CHECK(status.ok()) << status.ToString();
  return json;
}

std::string PrintJobs(const std::vector<v1::JobRecord>& records, const std::string& form, bool many, absl::Time now) {
  if (form == "name") {
    std::string text;
    for (const v1::JobRecord& record : records) absl::StrAppend(&text, record.id(), "\n");
    return text;
  }
  if (form == "json" || form == "yaml") {
    const std::string json = many ? JsonArray(records) : ToJson(records.at(0));
    return form == "yaml" ? JsonToYaml(json) : json + (many ? "\n" : "");
  }
  if (!many) return Describe(records.at(0), now);
  const bool wide = form == "wide";
  Rows rows = {{"ID", "NAME", "STATE", "STEP", "LOSS", "AGE"}};
  if (wide) rows[0].insert(rows[0].end(), {"ATTEMPTS", "WORKERS", "TOKENS/S", "MEMORY", "OWNER", "MESSAGE"});
  for (const v1::JobRecord& record : records) rows.push_back(JobRow(record, wide, now));
  return Table(rows);
}

std::string PrintWorkers(const std::vector<v1::WorkerRecord>& workers, const std::string& form, absl::Time now) {
  if (form == "name") {
    std::string text;
    for (const v1::WorkerRecord& worker : workers) absl::StrAppend(&text, worker.id(), "\n");
    return text;
  }
  if (form == "json") return JsonArray(workers) + "\n";
  if (form == "yaml") return JsonToYaml(JsonArray(workers));
  const bool wide = form == "wide";
  Rows rows = {{"ID", "STATE", "HOST", "ARCH", "DEVICES", "MEMORY", "JOBS", "SEEN"}};
  if (wide)
    rows[0].insert(rows[0].end(), {"BACKEND", "CAPABILITY", "DRIVER", "UNIFIED", "ALLOCATABLE", "FEATURES", "OS",
                                   "VERSION", "LIBTORCH", "ROOTS", "NOTES"});
  for (const v1::WorkerRecord& worker : workers) {
    const v1::Inventory& inventory = worker.inventory();
    const std::string device = inventory.devices().empty() ? "-" : Printable(inventory.devices(0).name());
    int64_t memory = 0;
    for (const v1::Device& one : inventory.devices()) memory += one.total_memory_bytes();
    std::vector<std::string> row = {Printable(worker.id()),
                                    worker.connected() ? "READY" : "UNKNOWN",
                                    Printable(inventory.hostname()),
                                    v1::Arch_Name(inventory.arch()),
                                    absl::StrCat(inventory.devices_size(), " × ", device),
                                    HumanBytes(static_cast<double>(memory)),
                                    worker.job_ids().empty() ? "-" : absl::StrJoin(worker.job_ids(), ","),
                                    worker.last_seen().seconds() == 0 ? "-" : Since(worker.last_seen(), now)};
    if (wide) {
      const v1::Device first = inventory.devices().empty() ? v1::Device() : inventory.devices(0);
      int64_t allocatable = 0;
      for (const v1::Device& one : inventory.devices()) allocatable += one.allocatable_memory_bytes();
      row.push_back(v1::Backend_Name(inventory.backend()));
      row.push_back(OrDash(first.compute_capability()));
      row.push_back(OrDash(first.driver()));
      row.emplace_back(first.unified_memory() ? "yes" : "no");
      row.push_back(HumanBytes(static_cast<double>(allocatable)));
      row.push_back(OrDash(absl::StrJoin(inventory.features(), ",")));
      row.push_back(Printable(inventory.os()));
      row.push_back(Printable(worker.version()));
      row.push_back(Printable(inventory.libtorch_version()));
      row.push_back(OrDash(absl::StrJoin(worker.shared_roots(), ",")));
      row.push_back(OrDash(absl::StrJoin(inventory.notes(), "; ")));
    }
    rows.push_back(std::move(row));
  }
  return Table(rows);
}

}  // namespace studio::ctl
