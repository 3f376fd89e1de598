#include "controller/scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace studio::controller {
namespace {

using testing::ElementsAre;

WorkerState Worker(const std::string& id, v1::Backend backend, int devices, int64_t gib = 80) {
  WorkerState worker{.id = id, .inventory = {}, .shared_roots = {}, .usable = true, .busy_devices = {}};
  worker.inventory.set_arch(v1::X86_64);
  worker.inventory.set_backend(backend);
  for (int i = 0; i < devices; ++i) {
    v1::Device& device = *worker.inventory.add_devices();
    device.set_id(absl::StrCat("d", i));
    device.set_backend(backend);
    device.set_name("NVIDIA H100 80GB HBM3");
    device.set_allocatable_memory_bytes(gib << 30);
  }
  return worker;
}

struct Waiting {
  std::string id;
  Needs needs;
  std::string message;
  operator WaitingJob() const { return {.id = id, .needs = std::make_shared<const Needs>(needs), .message = message}; }
};

Waiting Job(const std::string& id, int devices = 1, v1::Backend backend = v1::BACKEND_AUTO) {
  Waiting job{.id = id, .needs = {}, .message = {}};
  job.needs.resources.set_devices(devices);
  job.needs.resources.set_backend(backend);
  return job;
}

// "j1@w1:d0,d1" for an assignment, "j1? why" for an explanation.
std::vector<std::string> Told(const ClusterSnapshot& snapshot) {
  std::vector<std::string> told;
  for (const Action& action : Plan(snapshot)) {
    if (const auto* assign = std::get_if<Assign>(&action)) {
      std::vector<std::string> devices;
      for (const auto& rank : assign->ranks) devices.push_back(rank.device_ids(0));
      told.push_back(absl::StrCat(assign->job_id, "@", assign->ranks[0].worker_id(), ":", absl::StrJoin(devices, ",")));
    } else {
      told.push_back(absl::StrCat(std::get<Explain>(action).job_id, "? ", std::get<Explain>(action).message));
    }
  }
  return told;
}

ClusterSnapshot Cluster(std::vector<WaitingJob> jobs, std::vector<WorkerState> workers) {
  return {.now = absl::UnixEpoch(), .waiting = std::move(jobs), .workers = std::move(workers)};
}

TEST(Scheduler, PlacesJobsInTheirOrder) {
  EXPECT_THAT(Told(Cluster({Job("j1"), Job("j2"), Job("j3")}, {Worker("w1", v1::CUDA, 2), Worker("w2", v1::CPU, 1)})),
              ElementsAre("j1@w1:d0", "j2@w1:d1", "j3@w2:d0"));
}

TEST(Scheduler, GivesEachRankADeviceOfOneWorker) {
  EXPECT_THAT(Told(Cluster({Job("j1", 2)}, {Worker("w1", v1::CUDA, 1), Worker("w2", v1::CUDA, 4)})),
              ElementsAre("j1@w2:d0,d1"));
  const std::vector<Action> actions = Plan(Cluster({Job("j1", 2)}, {Worker("w", v1::CUDA, 2)}));
  const auto& ranks = std::get<Assign>(actions[0]).ranks;
  EXPECT_EQ(ranks[1].rank(), 1);
  EXPECT_EQ(ranks[1].local_rank(), 1);
}

TEST(Scheduler, SaysWhyAJobWaits) {
  struct Row {
    std::string name;
    WaitingJob job;
    std::vector<WorkerState> workers;
    std::string why;
  };
  Waiting arm = Job("j1"), kind = Job("j1"), memory = Job("j1"), file = Job("j1"), bound = Job("j1");
  arm.needs.resources.set_arch(v1::ARM64);
  kind.needs.resources.set_device_kind("GH200");
  memory.needs.resources.set_device_memory_bytes(int64_t{120} << 30);
  file.needs.file_uris = {"file:/shared/base"};
  bound.needs.only_worker = "w9";
  Waiting cuda_arm = Job("j1", 1, v1::CUDA), flash = Job("j1"), mac = Job("j1", 1, v1::MPS);
  cuda_arm.needs.resources.set_arch(v1::ARM64);
  Waiting kind_of_arch = cuda_arm;
  kind_of_arch.needs.resources.set_device_kind("GH200");
  v1::Job asks_flash;
  asks_flash.mutable_training()->set_attention_implementation(v1::Training::FLASH_ATTENTION_2);
  flash.needs.asks = AsksOf(asks_flash);
  WorkerState arm_cpu = Worker("w2", v1::CPU, 1);
  arm_cpu.inventory.set_arch(v1::ARM64);
  WorkerState arm_cuda = Worker("w4", v1::CUDA, 1);
  arm_cuda.inventory.set_arch(v1::ARM64);
  WorkerState gone = Worker("w1", v1::CUDA, 1), busy = Worker("w1", v1::CUDA, 1);
  gone.usable = false;
  busy.busy_devices = {{"d0", "j0"}};
  const WorkerState one = Worker("w1", v1::CUDA, 1);
  const std::vector<Row> rows = {
      {"nobody", Job("j1"), {}, "no worker is connected; start one with studio-worker"},
      {"lost", Job("j1"), {gone}, "no worker is connected; start one with studio-worker"},
      {"backend", Job("j1", 1, v1::MPS), {one}, "no worker has a device of backend MPS (there are CUDA)"},
      {"arch", arm, {one}, "no worker is of architecture ARM64"},
      {"kind", kind, {one}, "no worker has a device of kind \"GH200\""},
      {"kind of an arch", kind_of_arch, {one, arm_cuda}, "no ARM64 worker has a CUDA device of kind \"GH200\""},
      {"backend of an arch",
       cuda_arm,
       {one, arm_cpu, Worker("w3", v1::CUDA, 1)},
       "no ARM64 worker has a device of backend CUDA (there are CPU, CUDA)"},
      {"capability",
       flash,
       {one},
       "no worker can do what it asks for; on worker w1, FLASH_ATTENTION_2 needs flash_attention_2, which it does not "
       "have (training.attention_implementation; SDPA works there)"},
      {"a mac", mac, {one, arm_cpu}, "no worker has a device of backend MPS (there are CPU, CUDA)"},
      {"memory", memory, {one}, "no device has the 120 GiB of memory that it asks for (the largest has 80 GiB)"},
      {"count", Job("j1", 4), {one}, "it asks for 4 devices on one worker; worker w1 has 1"},
      {"nearest",
       Job("j1", 4),
       {one, Worker("w2", v1::CUDA, 3)},
       "it asks for 4 devices on one worker; worker w2 has 3"},
      {"root", file, {one}, "no worker declares a shared root for file:/shared/base"},
      {"checkpoint", bound, {one}, "its checkpoint can be read on worker w9 alone, which is not there"},
      {"busy", Job("j1"), {busy}, "waits for 1 device: busy with or kept for j0"},
  };
  for (const Row& row : rows) {
    EXPECT_THAT(Told(Cluster({row.job}, row.workers)), ElementsAre("j1? " + row.why)) << row.name;
  }
}

TEST(Scheduler, SaysItOnce) {
  Waiting job = Job("j1");
  job.message = "no worker is connected; start one with studio-worker";
  EXPECT_THAT(Told(Cluster({job}, {})), ElementsAre());
}

TEST(Scheduler, FindsDeviceKindsInAnyLetterCase) {
  Waiting job = Job("j1");
  job.needs.resources.set_device_kind("h100");
  EXPECT_THAT(Told(Cluster({job}, {Worker("w", v1::CUDA, 1)})), ElementsAre("j1@w:d0"));
}

TEST(Scheduler, PlacesJobsByWhatTheyAskFor) {
  WorkerState arm = Worker("arm", v1::CPU, 1), gpu = Worker("gpu", v1::CUDA, 1), x86 = Worker("x86", v1::CPU, 1);
  arm.inventory.set_arch(v1::ARM64);
  gpu.inventory.add_features("flash_attention_2");
  Waiting on_arm = Job("j1"), on_cuda = Job("j2", 1, v1::CUDA), on_cpu = Job("j3", 1, v1::CPU), flash = Job("j4");
  on_arm.needs.resources.set_arch(v1::ARM64);
  on_cpu.needs.resources.set_arch(v1::X86_64);
  v1::Job asks_flash;
  asks_flash.mutable_training()->set_attention_implementation(v1::Training::FLASH_ATTENTION_2);
  flash.needs.asks = AsksOf(asks_flash);
  EXPECT_THAT(Told(Cluster({on_arm, on_cuda, on_cpu}, {gpu, x86, arm})),
              ElementsAre("j1@arm:d0", "j2@gpu:d0", "j3@x86:d0"));
  EXPECT_THAT(Told(Cluster({flash}, {x86, arm, gpu})), ElementsAre("j4@gpu:d0"));
}

TEST(Scheduler, UsesAWorkerThatDeclaresTheRoot) {
  Waiting job = Job("j1");
  job.needs.file_uris = {"file:/shared/base"};
  WorkerState worker = Worker("w", v1::CUDA, 1);
  worker.shared_roots = {"/share"};  // a prefix of the text, not of the path
  EXPECT_EQ(Told(Cluster({job}, {worker})).at(0).substr(0, 3), "j1?");
  worker.shared_roots = {"/shared"};
  EXPECT_THAT(Told(Cluster({job}, {worker})), ElementsAre("j1@w:d0"));
}

TEST(Scheduler, KeepsAWorkerForTheOlderJobThatWaitsForIt) {
  WorkerState worker = Worker("w", v1::CUDA, 2);
  worker.busy_devices = {{"d0", "j1"}};
  EXPECT_THAT(Told(Cluster({Job("j2", 2), Job("j3", 1)}, {worker})),
              ElementsAre("j2? waits for 2 devices: busy with or kept for j1",
                          "j3? waits for 1 device: busy with or kept for j1, j2"));
}

TEST(Scheduler, LetsOnlyTheOldestOfItsKindNameWhoHoldsTheDevices) {
  WorkerState worker = Worker("w", v1::CUDA, 2);
  worker.busy_devices = {{"d0", "j1"}, {"d1", "j1"}};
  const WaitingJob first = Job("j2");
  const WaitingJob second{.id = "j3", .needs = first.needs, .message = {}};
  EXPECT_THAT(Told(Cluster({first, second}, {worker})), ElementsAre("j2? waits for 1 device: busy with or kept for j1",
                                                                    "j3? waits for 1 device behind older jobs"));
  worker.busy_devices = {{"d0", "j1"}};
  EXPECT_THAT(Told(Cluster({first, second}, {worker})),
              ElementsAre("j2@w:d1", "j3? waits for 1 device: busy with or kept for j1, j2"));
}

TEST(Scheduler, NamesAHandfulOfHolders) {
  WorkerState worker = Worker("w", v1::CUDA, 8);
  for (int i = 0; i < 8; ++i) worker.busy_devices.emplace_back(absl::StrCat("d", i), absl::StrCat("j", i));
  EXPECT_THAT(Told(Cluster({Job("j9")}, {worker})),
              ElementsAre("j9? waits for 1 device: busy with or kept for j0, j1, j2, j3, j4 and 3 more"));
}

TEST(Scheduler, LetsNobodyWaitForAJobThatCannotRunHere) {
  EXPECT_THAT(Told(Cluster({Job("j1", 8), Job("j2")}, {Worker("w", v1::CUDA, 2)})),
              ElementsAre("j1? it asks for 8 devices on one worker; worker w has 2", "j2@w:d0"));
}

}  // namespace
}  // namespace studio::controller
