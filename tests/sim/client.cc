#include "tests/sim/client.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/job/job_machine.h"

namespace studio::sim {
namespace {

const std::string kModelHash(64, 'b');
const std::string kRowsHash(64, 'a');

}  // namespace

std::map<std::string, std::string> InputBlobs() { return {{kRowsHash, "rows"}, {kModelHash, "model"}}; }

v1::SubmitJobRequest RequestFor(const JobScript& script) {
  v1::SubmitJobRequest request;
  request.set_request_id(absl::StrCat("r", script.number));
  v1::Job& job = *request.mutable_job();
  job.set_name(absl::StrCat("r", script.number));
  job.mutable_dataset()->set_train_dataframe("rows.jsonl");
  job.mutable_architecture()->set_llm_backbone("model.safetensors");
  job.mutable_training()->set_batch_size(4);
  job.mutable_training()->set_max_steps(script.steps);
  job.mutable_training()->set_save_steps(script.save_steps);
  job.mutable_resources()->set_devices(script.devices);
  job.mutable_retry()->set_fence_seconds(script.fence_seconds);
  job.mutable_retry()->set_max_crashes(script.max_crashes);
  job.mutable_retry()->set_max_alone_seconds(script.max_alone_seconds);
  const auto add = [&](const std::string& field, const std::string& path, const std::string& hash, size_t size) {
    v1::Input& input = *request.add_inputs();
    input.set_field(field);
    input.mutable_artifact()->set_uri("studio:");
    input.mutable_artifact()->set_single_file(true);
    v1::FileRef& file = *input.mutable_artifact()->add_files();
    file.set_path(path);
    file.set_size_bytes(static_cast<int64_t>(size));
    file.set_sha256(hash);
  };
  add("dataset.train_dataframe", "rows.jsonl", kRowsHash, 4);
  add("architecture.llm_backbone", "model.safetensors", kModelHash, 5);
  return request;
}

Client::Client(Engine& engine, History& history, ControllerHost& controller, uint64_t seed, JobScript script)
    : engine_(engine),
      history_(history),
      controller_(controller),
      random_(seed, absl::StrCat("client", script.number)),
      script_(script) {}

void Client::Start() {
  ++pending_;
  engine_.After(script_.submit_at, nullptr, [this] { SubmitUntilAnswered(); });
}

void Client::Ask(std::function<void(std::shared_ptr<bool>)> call, std::shared_ptr<bool> answered) {
  if (*answered) return;
  // As studioctl does: whatever the store lacks goes first.
  for (const auto& [sha256, bytes] : InputBlobs()) {
    if (controller_.process().alive) controller_.Put(sha256, bytes);
  }
  // The request may be lost on its way.
  if (controller_.process().alive && !random_.Chance(10)) {
    engine_.After(random_.Ms(0, 50), nullptr, [this, call, answered] {
      if (controller_.process().alive) controller_.Run([call, answered] { call(answered); });
    });
  }
  engine_.After(random_.Ms(1000, 4000), nullptr, [this, call, answered] { Ask(call, answered); });
}

void Client::SubmitUntilAnswered() {
  Ask(
      [this](std::shared_ptr<bool> answered) {
        controller_.loop().Submit("local", RequestFor(script_),
                                  [this, answered](absl::StatusOr<v1::SubmitJobResponse> response) {
                                    // The answer may be lost on its way, too.
                                    if (!response.ok() || random_.Chance(10)) return;
                                    history_.SubmitAnswered(response->record().request_id(), response->record());
                                    if (std::exchange(*answered, true)) return;
                                    --pending_;
                                    job_id_ = response->record().id();
                                    if (script_.cancel_at < absl::InfiniteDuration()) {
                                      ++pending_;
                                      engine_.At(absl::FromUnixSeconds(1'000'000'000) + script_.cancel_at, nullptr,
                                                 [this] { CancelUntilAnswered(); });
                                    }
                                    if (script_.retried) {
                                      ++pending_;
                                      RetryUntilAnswered();
                                    }
                                  });
      },
      std::make_shared<bool>(false));
}

void Client::CancelUntilAnswered() {
  Ask(
      [this](std::shared_ptr<bool> answered) {
        controller_.loop().Cancel(job_id_, [this, answered](absl::StatusOr<v1::JobRecord> record) {
          if (!record.ok() || random_.Chance(10)) return;
          history_.CancelAnswered(*record);
          if (!std::exchange(*answered, true)) --pending_;
        });
      },
      std::make_shared<bool>(false));
}

void Client::RetryUntilAnswered() {
  const auto job = history_.jobs().find(job_id_);
  if (job == history_.jobs().end() || !IsTerminal(job->second.state())) {
    engine_.After(absl::Seconds(3), nullptr, [this] { RetryUntilAnswered(); });
    return;
  }
  Ask(
      [this](std::shared_ptr<bool> answered) {
        v1::RetryJobRequest request;
        request.set_id(job_id_);
        request.set_request_id(absl::StrCat("again-r", script_.number));
        controller_.loop().Retry("local", request, [this, answered](absl::StatusOr<v1::SubmitJobResponse> response) {
          if (!response.ok() || random_.Chance(10)) return;
          history_.SubmitAnswered(response->record().request_id(), response->record());
          if (!std::exchange(*answered, true)) --pending_;
        });
      },
      std::make_shared<bool>(false));
}

}  // namespace studio::sim
