// A trainer that trains nothing: it keeps the whole contract of one (probe, task, events, checkpoints with manifest,
// stop, end of file) without LibTorch, so that the control path can be tested, and timed, alone.
//
// The job's labels say what to do:
//   noop.steps             steps in all (default 3)
//   noop.step_ms           milliseconds a step takes (default 0)
//   noop.checkpoint_every  steps between checkpoints (default 0: none but on stop)
//   noop.print             a line to print
//   noop.print_steps       print a line for each step
//   noop.print_data        print the local path of dataset.train_dataframe and its first line
//   noop.fail_at           the step at which noop.fail happens (default 1)
//   noop.fail_attempts     only attempts up to this number fail (default: all)
//   noop.fail_fresh        only an attempt that starts from the beginning fails
//   noop.fail              "REASON: message" (BAD_INPUT, DEVICE_OOM, HOST_OOM, CRASH, DIVERGED) says so and ends with
//   its
//                          exit code; "crash" aborts; "exit N" ends without a word; "signal N" kills itself; "hang"
//                          stops stepping; "deaf" stops stepping and ignores orders; "eat memory" takes up to 4 GiB
//
// The loss of step s is 4 / (1 + s), so that a resumed run can be checked to go on where it was.
#include <google/protobuf/text_format.h>
#include <openssl/sha.h>
#include <signal.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/env/posix_env.h"
#include "common/framing/framing.h"
#include "common/status/check.h"
#include "common/status/macros.h"
#include "proto/studio/v1/trainer.pb.h"

namespace studio {
namespace {

constexpr int kUsage = 2, kBadInput = 65, kCrash = 70, kDeviceOom = 71, kHostOom = 72;

int ExitCodeOf(v1::Reason reason) {
  switch (reason) {
    case v1::BAD_INPUT:
      return kBadInput;
    case v1::DEVICE_OOM:
      return kDeviceOom;
    case v1::HOST_OOM:
      return kHostOom;
    default:
      return kCrash;
  }
}

int Probe() {
  utsname machine = {};
  uname(&machine);
  v1::Inventory inventory;
  inventory.set_machine(machine.machine);
  inventory.set_arch(absl::string_view(machine.machine) == "x86_64" ? v1::X86_64 : v1::ARM64);
  inventory.set_os(machine.sysname);
  inventory.set_hostname(machine.nodename);
  inventory.set_backend(v1::CPU);
  inventory.set_cpu_cores(static_cast<int>(std::thread::hardware_concurrency()));
  inventory.set_host_memory_bytes(sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
  inventory.set_trainer_version("noop");
  inventory.set_needs_data(false);
  v1::Device& device = *inventory.add_devices();
  device.set_id("cpu:0");
  device.set_backend(v1::CPU);
  device.set_name("no-op");
  device.set_total_memory_bytes(inventory.host_memory_bytes());
  device.set_allocatable_memory_bytes(inventory.host_memory_bytes());
  std::string text;
  STUDIO_CHECK(google::protobuf::TextFormat::PrintToString(inventory, &text));
  std::cout << text << std::flush;
  return 0;
}

// What the agent wants, as the reading thread heard it.
class Orders {
 public:
  explicit Orders(int fd) : reader_([this, fd] { Read(fd); }) { reader_.detach(); }

  // Sleeps for up to `time`; wakes at once for an order.
  void Wait(std::chrono::milliseconds time) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, time, [this] { return stop_.has_value() || checkpoint_; });
  }
  std::optional<v1::Stop> stop() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return stop_;
  }
  bool TakeCheckpoint() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(checkpoint_, false);
  }

 private:
  void Read(int fd) {
    FrameReader reader(fd);
    v1::TrainerDown order;
    while (reader.Read(order).ok()) {
      // Whoever is told that its epoch is over writes nothing more.
      if (order.has_epoch_over()) _exit(0);
      const std::lock_guard<std::mutex> lock(mutex_);
      if (order.has_stop()) stop_ = order.stop();
      if (order.has_checkpoint()) checkpoint_ = true;
      changed_.notify_all();
    }
    _exit(kCrash);  // the agent is gone: nobody would hear the rest
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<v1::Stop> stop_;
  bool checkpoint_ = false;
  std::thread reader_;
};

std::string Sha256Hex(const std::string& bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  std::string hex;
  for (const unsigned char byte : digest) absl::StrAppend(&hex, absl::Hex(byte, absl::kZeroPad2));
  return hex;
}

v1::FileRef RefOf(const std::string& path, const std::string& bytes) {
  v1::FileRef file;
  file.set_path(path);
  file.set_size_bytes(static_cast<int64_t>(bytes.size()));
  file.set_sha256(Sha256Hex(bytes));
  return file;
}

class NoopTrainer {
 public:
  NoopTrainer(v1::TrainerTask task, int fd) : task_(std::move(task)), fd_(fd), orders_(fd) {}

  absl::StatusOr<int> Run() {
    if (!Label("noop.print").empty()) std::cout << Label("noop.print") << std::endl;
    if (!Label("noop.print_data").empty()) RETURN_IF_ERROR(PrintData());
    SendState(v1::ATTEMPT_PREPARING);
    SendState(v1::ATTEMPT_STARTING);
    ASSIGN_OR_RETURN(int64_t step, StartStep());
    SendState(v1::ATTEMPT_RUNNING);
    const int64_t steps = Number("noop.steps", 3);
    const int64_t every = Number("noop.checkpoint_every", 0);
    while (step < steps) {
      orders_.Wait(std::chrono::milliseconds(Number("noop.step_ms", 0)));
      // Deaf from the start: a stop may come before the step of the failure.
      const std::optional<v1::Stop> stop = orders_.stop();
      if (stop && Label("noop.fail") != "deaf") return StopAt(step, *stop);
      ++step;
      if (const std::optional<int> exit_code = MaybeFail(step)) return *exit_code;
      SendProgress(step, steps);
      if (!Label("noop.print_steps").empty()) std::cout << "step " << step << std::endl;
      if (orders_.TakeCheckpoint() || (every > 0 && step % every == 0)) RETURN_IF_ERROR(Checkpoint(step));
    }
    return Finish(step);
  }

 private:
  // "noop.fail.1" is rank 1's "noop.fail".
  std::string Label(const std::string& name) const {
    auto label = task_.job().labels().find(absl::StrCat(name, ".", task_.rank().rank()));
    if (label == task_.job().labels().end()) label = task_.job().labels().find(name);
    return label == task_.job().labels().end() ? "" : label->second;
  }
  int64_t Number(const std::string& name, int64_t fallback) const {
    int64_t value = 0;
    return absl::SimpleAtoi(Label(name), &value) ? value : fallback;
  }

  void Send(v1::TrainerUp up) {
    up.set_sequence(++sequence_);
    // A failure to write is the agent's end, which the reading thread deals with.
    (void)WriteFrame(fd_, up);
  }
  void SendState(v1::AttemptState state) {
    v1::TrainerUp up;
    up.set_state(state);
    Send(std::move(up));
  }
  void SendProgress(int64_t step, int64_t steps) {
    v1::TrainerUp up;
    v1::Progress& progress = *up.mutable_progress();
    progress.set_step(step);
    progress.set_total_steps(steps);
    progress.set_loss(4.0 / (1.0 + static_cast<double>(step)));
    Send(std::move(up));
  }

  absl::Status PrintData() {
    const std::string& path = task_.job().dataset().train_dataframe();
    ASSIGN_OR_RETURN(const std::string bytes, env_.ReadFile(path));
    std::cout << path << std::endl << bytes.substr(0, bytes.find('\n')) << std::endl;
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> StartStep() {
    if (task_.resume_dir().empty()) return 0;
    ASSIGN_OR_RETURN(const std::string text, env_.ReadFile(absl::StrCat(task_.resume_dir(), "/manifest.pb.txt")));
    v1::CheckpointManifest manifest;
    if (!google::protobuf::TextFormat::ParseFromString(text, &manifest)) {
      return absl::DataLossError("the checkpoint's manifest cannot be read");
    }
    for (const v1::CheckpointShard& shard : manifest.shards()) {
      ASSIGN_OR_RETURN(const std::string bytes,
                       env_.ReadFile(absl::StrCat(task_.resume_dir(), "/", shard.file().path())));
      if (Sha256Hex(bytes) != shard.file().sha256()) {
        return absl::DataLossError(absl::StrCat(shard.file().path(), " does not have the hash of its manifest"));
      }
    }
    return manifest.step();
  }

  absl::Status Checkpoint(int64_t step) {
    if (task_.rank().rank() != 0) return absl::OkStatus();
    const std::string folder = absl::StrCat(task_.out_dir(), "/checkpoints/step-", step);
    RETURN_IF_ERROR(env_.MakeFolders(folder));
    const std::string shard = absl::StrCat("state of step ", step, "\n");
    const std::string name = absl::StrCat("rank-", task_.rank().rank(), ".txt");
    RETURN_IF_ERROR(env_.WriteFile(absl::StrCat(folder, "/", name), shard));
    v1::TrainerUp up;
    v1::CheckpointManifest& manifest = *up.mutable_checkpoint();
    manifest.set_step(step);
    manifest.set_format_version(1);
    *manifest.mutable_plan() = task_.plan();
    v1::CheckpointShard& written = *manifest.add_shards();
    written.set_rank(task_.rank().rank());
    *written.mutable_file() = RefOf(name, shard);
    std::string text;
    STUDIO_CHECK(google::protobuf::TextFormat::PrintToString(manifest, &text));
    RETURN_IF_ERROR(env_.WriteFile(absl::StrCat(folder, "/manifest.pb.txt"), text));
    Send(std::move(up));
    return absl::OkStatus();
  }

  // Page by page, until it is stopped; kCrash where nobody did.
  static int EatMemory() {
    std::vector<std::vector<char>> eaten;
    while (eaten.size() < 64) eaten.emplace_back(64 << 20, 'x');
    return kCrash;
  }

  std::optional<int> MaybeFail(int64_t step) {
    const std::string fail = Label("noop.fail");
    if (fail.empty() || step != Number("noop.fail_at", 1)) return std::nullopt;
    if (task_.attempt() > Number("noop.fail_attempts", task_.attempt())) return std::nullopt;
    if (!Label("noop.fail_fresh").empty() && !task_.resume_dir().empty()) return std::nullopt;
    if (fail == "crash") std::abort();
    if (fail == "eat memory") return EatMemory();
    if (absl::StartsWith(fail, "exit ")) return static_cast<int>(std::strtol(fail.c_str() + 5, nullptr, 10));
    if (absl::StartsWith(fail, "signal ")) {
      kill(getpid(), static_cast<int>(std::strtol(fail.c_str() + 7, nullptr, 10)));
      std::this_thread::sleep_for(std::chrono::hours(1));  // lint: allowed (it plays a hang)
    }
    if (fail == "hang" || fail == "deaf") {
      while (fail == "deaf" || !orders_.stop()) orders_.Wait(std::chrono::hours(1));
      return std::nullopt;
    }
    const std::vector<std::string> parts = absl::StrSplit(fail, absl::MaxSplits(": ", 1));
    v1::TrainerUp up;
    v1::Reason reason = v1::CRASH;
    (void)v1::Reason_Parse(parts[0], &reason);
    up.mutable_failure()->set_reason(reason);
    up.mutable_failure()->set_message(parts.back());
    up.mutable_failure()->set_lost_peers(parts[0] == "lost");
    std::cerr << parts.back() << std::endl;
    Send(std::move(up));
    return ExitCodeOf(reason);
  }

  absl::StatusOr<int> StopAt(int64_t step, const v1::Stop& stop) {
    if (!stop.discard()) RETURN_IF_ERROR(Checkpoint(step));
    v1::TrainerUp up;
    up.mutable_finished()->set_stopped(true);
    Send(std::move(up));
    return 0;
  }

  absl::StatusOr<int> Finish(int64_t step) {
    v1::TrainerUp up;
    v1::Finished& finished = *up.mutable_finished();
    if (task_.rank().rank() == 0) {
      const std::string folder = absl::StrCat(task_.out_dir(), "/result");
      const std::string result = absl::StrCat("trained nothing for ", step, " steps\n");
      RETURN_IF_ERROR(env_.MakeFolders(folder));
      RETURN_IF_ERROR(env_.WriteFile(absl::StrCat(folder, "/result.txt"), result));
      *finished.mutable_result()->add_files() = RefOf("result.txt", result);
    }
    Send(std::move(up));
    return 0;
  }

  const v1::TrainerTask task_;
  const int fd_;
  PosixEnv env_;
  int64_t sequence_ = 0;
  Orders orders_;
};

int RunTask(const std::string& path) {
  const char* fd_text = std::getenv("STUDIO_AGENT_FD");
  int fd = -1;
  if (fd_text == nullptr || !absl::SimpleAtoi(fd_text, &fd)) {
    std::cerr << "STUDIO_AGENT_FD is not set: an agent starts this program" << std::endl;
    return kUsage;
  }
  const absl::StatusOr<std::string> text = PosixEnv().ReadFile(path);
  v1::TrainerTask task;
  if (!text.ok() || !google::protobuf::TextFormat::ParseFromString(*text, &task)) {
    std::cerr << path << " is no TrainerTask: " << text.status().ToString() << std::endl;
    return kUsage;
  }
  // Leaked: its reading thread lives until the process ends.
  const absl::StatusOr<int> exit_code = (new NoopTrainer(std::move(task), fd))->Run();
  if (exit_code.ok()) return *exit_code;
  std::cerr << exit_code.status().ToString() << std::endl;
  return kCrash;
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  int exit_code = studio::kUsage;
  if (command == "--probe" && argc == 2) {
    exit_code = studio::Probe();
  } else if (command == "--task" && argc == 3) {
    exit_code = studio::RunTask(argv[2]);
  } else {
    std::cerr << "usage: noop_trainer --probe | --task FILE" << std::endl;
  }
  std::cout << std::flush;
  _exit(exit_code);
}
