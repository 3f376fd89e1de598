#include "worker/trainer/agent_link/describe_event.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace studio {
namespace {

std::string DescribeState(v1::AttemptState state) {
  switch (state) {
    case v1::ATTEMPT_PREPARING:
      return "preparing data";
    case v1::ATTEMPT_STARTING:
      return "loading the model";
    case v1::ATTEMPT_RUNNING:
      return "training";
    default:
      return v1::AttemptState_Name(state);
  }
}

std::string DescribeProgress(const v1::Progress& point) {
  if (point.total_steps() == 0) {
    return absl::StrFormat("prepared %d of %d rows", point.prepared_rows(), point.total_rows());
  }
  return absl::StrFormat("step %d/%d  loss %.4f  lr %.3g  grad_norm %.3f  %.0f tokens/s  %.2f GiB  %.0f s left",
                         point.step(), point.total_steps(), point.loss(), point.learning_rate(), point.grad_norm(),
                         point.tokens_per_second(), point.peak_memory_bytes() / double{1 << 30}, point.eta_seconds());
}

std::string DescribeData(const v1::DataReport& data) {
  std::string line = absl::StrFormat(
      "data: %d rows, %d examples to train on, %d held out, %d tokens (%d learnt), "
      "%d truncated, rows of up to %d tokens: %d + %d",
      data.rows(), data.train_examples(), data.validation_examples(), data.tokens(), data.valid_tokens(),
      data.truncated(), data.max_length(), data.train_rows(), data.validation_rows());
  for (const auto& [why, count] : data.dropped()) absl::StrAppend(&line, "\n  dropped ", count, ": ", why);
  return line;
}

}  // namespace

std::string DescribeEvent(const v1::TrainerUp& event) {
  switch (event.event_case()) {
    case v1::TrainerUp::kState:
      return DescribeState(event.state());
    case v1::TrainerUp::kProgress:
      return DescribeProgress(event.progress());
    case v1::TrainerUp::kEvaluation:
      return absl::StrFormat("step %d  held-out loss %.4f over %d tokens", event.evaluation().step(),
                             event.evaluation().loss(), event.evaluation().valid_tokens());
    case v1::TrainerUp::kSample:
      return absl::StrCat("sample at step ", event.sample().step(), "\n  > ", event.sample().prompt(), "\n  ",
                          event.sample().answer());
    case v1::TrainerUp::kData:
      return DescribeData(event.data());
    case v1::TrainerUp::kCheckpoint:
      return absl::StrCat("checkpoint of step ", event.checkpoint().step(), " written");
    case v1::TrainerUp::kFinished:
      return event.finished().stopped() ? "stopped" : "finished";
    case v1::TrainerUp::kNote:
      return absl::StrCat("note: ", event.note());
    default:
      return "";  // a failure goes to stderr, by main
  }
}

}  // namespace studio
