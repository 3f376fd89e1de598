#include "worker/trainer/loop/summary.h"

#include <nlohmann/json.hpp>

namespace studio {

std::string SummaryJson(const RunSummary& summary) {
  nlohmann::ordered_json json;
  json["stopped"] = summary.stopped;
  json["steps"] = summary.steps;
  json["total_steps"] = summary.total_steps;
  if (summary.before) json["eval_loss_before"] = summary.before->loss();
  if (summary.after) json["eval_loss_after"] = summary.after->loss();
  json["tokens_per_second"] = summary.tokens_per_second;
  json["peak_memory_bytes"] = summary.peak_memory_bytes;
  json["tokens_seen"] = summary.tokens_seen;
  json["seconds"] = summary.seconds;
  json["device"] = summary.device;
  json["optimizer"] = summary.optimizer;
  json["step"] = summary.step;
  json["samples"] = nlohmann::json::array();
  for (const v1::Sample& sample : summary.samples) {
    json["samples"].push_back({{"step", sample.step()}, {"prompt", sample.prompt()}, {"answer", sample.answer()}});
  }
  json["evaluations"] = nlohmann::json::array();
  for (const v1::Evaluation& evaluation : summary.evaluations) {
    json["evaluations"].push_back({{"step", evaluation.step()}, {"loss", evaluation.loss()}});
  }
  json["first_step"] = summary.first_step;
  json["losses"] = summary.losses;
  json["step_seconds"] = summary.step_seconds;
  json["step_tokens"] = summary.step_tokens;
  // A generated answer may end inside a character.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace studio
