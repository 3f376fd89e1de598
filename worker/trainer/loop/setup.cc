#include "worker/trainer/loop/setup.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status/macros.h"
#include "worker/trainer/device/device.h"
#include "worker/trainer/device/traits.h"
#include "worker/trainer/loop/choose_optimizer.h"
#include "worker/trainer/probe/host.h"

namespace studio {
namespace {

Attention AttentionOf(v1::Training::Attention asked) {
  switch (asked) {
    case v1::Training::EAGER:
      return Attention::kEager;
    case v1::Training::SDPA:
      return Attention::kSdpa;
    case v1::Training::FLASH_ATTENTION_2:
      return Attention::kFlash;
    default:
      return Attention::kAuto;
  }
}

// The scheduler chose the device; a rank's number among its neighbours says nothing where other jobs hold some.
int DeviceIndex(const v1::RankAssignment& rank) {
  int index = 0;
  for (const std::string& id : rank.device_ids()) {
    absl::string_view number = id;
    if (absl::ConsumePrefix(&number, "cuda:") && absl::SimpleAtoi(number, &index)) return index;
  }
  return rank.local_rank();
}

absl::StatusOr<std::unique_ptr<Ranks>> Meet(const v1::TrainerTask& task, const RankPlace& place, at::Device device) {
  Meeting meeting;
  meeting.rank = task.rank().rank();
  meeting.size = std::max(1, task.world_size());
  meeting.address = task.rendezvous().address();
  meeting.port = task.rendezvous().port();
  meeting.listen_fd = place.store_fd;
  return Ranks::Join(meeting, device);
}

// Ranks that begin apart would train apart, whatever they exchange.
absl::Status TakeWeightsOfRankZero(const Optimizer& optimizer, Ranks& ranks) {
  for (const at::Tensor& weight : optimizer.weights()) {
    RETURN_IF_ERROR(ranks.Broadcast(weight, "the weights that training starts from"));
    // Backends write past the count of versions, by which copies in other types are refreshed.
    weight.unsafeGetTensorImpl()->bump_version();
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelOptions> OptionsOf(const v1::Job& job, const v1::BatchPlan& plan, int device_index) {
  const v1::Training& training = job.training();
  ModelOptions options;
  ASSIGN_OR_RETURN(options.device, ChooseDevice(job.resources().backend(), device_index));
  const DeviceTraits traits = TraitsOf(options.device);
  ASSIGN_OR_RETURN(options.compute_dtype, ComputeType(job.environment().mixed_precision_dtype(), traits));
  options.base_dtype = options.compute_dtype;
  if (job.architecture().backbone_dtype() != v1::Architecture::DTYPE_AUTO) {
    ASSIGN_OR_RETURN(options.base_dtype, ComputeType(job.architecture().backbone_dtype(), traits));
  }
  // Asked for by name, bfloat16 is all that is kept of a weight (docs/precision.md).
  if (job.architecture().backbone_dtype() == v1::Architecture::BFLOAT16) options.trained_dtype = at::kBFloat16;
  if (training.lora()) {
    LoraConfig& lora = options.lora.emplace();
    lora.r = training.lora_r();
    lora.alpha = training.lora_alpha();
    lora.dropout = training.lora_dropout();
    lora.rslora = training.use_rslora();
    lora.target_modules = {training.lora_target_modules().begin(), training.lora_target_modules().end()};
  }
  options.adapter_dir = job.architecture().pretrained_adapter();
  options.pretrained = job.architecture().pretrained();
  options.seed = job.environment().seed();
  options.gradient_checkpointing = plan.recompute();
  options.attention = AttentionOf(training.attention_implementation());
  options.neftune_alpha = job.augmentation().neftune_noise_alpha();
  return options;
}

}  // namespace

v1::BatchPlan PlanOf(const v1::TrainerTask& task) {
  if (task.plan().micro() > 0) return task.plan();
  const v1::Training& training = task.job().training();
  v1::BatchPlan plan;
  plan.set_micro(training.batch_size());
  plan.set_accumulation(training.grad_accumulation());
  plan.set_global(training.batch_size() * training.grad_accumulation() * std::max(1, task.world_size()));
  plan.set_recompute(task.job().architecture().gradient_checkpointing());
  plan.set_cause("submitted");
  return plan;
}

absl::StatusOr<RunSetup> SetUp(const v1::TrainerTask& task, const v1::DataReport& data, StepAsked step,
                               const RankPlace& place, Env& env) {
  const v1::Job& job = task.job();
  RunSetup setup;
  setup.plan = PlanOf(task);
  ASSIGN_OR_RETURN(setup.feed,
                   MakeFeedPlan(job.training(), job.environment().seed(), data.train_rows(), setup.plan.micro(),
                                setup.plan.accumulation(), task.rank().rank(), std::max(1, task.world_size())));
  setup.schedule = MakeSchedule(job.training(), setup.feed.total_steps);

  setup.threads = job.environment().number_of_workers() > 0
                      ? job.environment().number_of_workers()
                      : std::max(1, HostCores() / std::max(1, place.local_world_size));
  at::set_num_threads(setup.threads);

  ASSIGN_OR_RETURN(ModelOptions options, OptionsOf(job, setup.plan, DeviceIndex(task.rank())));
  // Before the weights are loaded, which may take minutes.
  ASSIGN_OR_RETURN(OptimizerChoice optimizer,
                   ChooseOptimizer(job.training().optimizer(), options.lora ? at::kFloat : options.trained_dtype,
                                   options.device, task.resume_dir(), env));
  setup.optimizer_kind = optimizer.kind();
  ASSIGN_OR_RETURN(setup.ranks, Meet(task, place, options.device));
  ASSIGN_OR_RETURN(setup.step, ChooseStep(step, options));
  options.bordered = setup.step.planned;
  setup.operations = MakeOperations(setup.step, options, env);
  ASSIGN_OR_RETURN(setup.model, CausalLm::Load(job.architecture().llm_backbone(), options));
  if (data.max_length() > setup.model->architecture().max_positions) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.max_length: ", data.max_length(),
                                                   " is above the model's context of ",
                                                   setup.model->architecture().max_positions, " tokens"));
  }
  ASSIGN_OR_RETURN(setup.optimizer, optimizer.Make(*setup.model, job.training(), setup.operations.operations));
  RETURN_IF_ERROR(TakeWeightsOfRankZero(*setup.optimizer, *setup.ranks));
  return setup;
}

}  // namespace studio
