// The controller's machine: runs a ControllerLoop over a SimStore, as controller/api's server does with an executor,
// and starts it again when it has died.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "controller/logs/log_keeper.h"
#include "controller/loop/controller_loop.h"
#include "tests/sim/engine.h"
#include "tests/sim/history.h"
#include "tests/sim/random.h"
#include "tests/sim/sim_store.h"

namespace studio::sim {

// Points in memory; logs are of no concern here.
class SimLogs : public controller::LogKeeper {
 public:
  absl::Status AppendLog(const std::string&, int, int, int64_t, std::string_view) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<v1::Progress>> AppendPoints(const std::string& job_id, int attempt,
                                                         const std::vector<v1::Progress>& points) override;
  std::optional<v1::Progress> LastPoint(const std::string& job_id, int attempt) const override;

 private:
  std::map<std::pair<std::string, int>, v1::Progress> last_;
};

class ControllerHost {
 public:
  ControllerHost(Engine& engine, History& history, uint64_t seed);

  void Start();
  // SIGKILL; back after a few seconds, or after `away`.
  void Kill(absl::Duration away = absl::ZeroDuration());
  // SIGSTOP.
  void Pause(absl::Duration length);
  StoreDisk& disk() { return disk_; }
  const SimProcess& process() const { return process_; }
  controller::ControllerLoop& loop() { return *loop_; }
  // Blobs of the content store, by hash: durable.
  const std::map<std::string, std::string>& content() const { return content_; }
  void Put(const std::string& sha256, const std::string& bytes);

  // On the loop's thread, as soon as the process runs.
  void Run(Engine::Task task);

 private:
  void AfterTask();
  // As the server's housekeeper.
  void KeepHouse();

  Engine& engine_;
  History& history_;
  Random random_;
  StoreDisk disk_;
  SimLogs logs_;
  SimProcess process_;
  std::map<std::string, std::string> content_;
  std::map<std::string, absl::Time> put_;
  std::unique_ptr<SimStore> store_;
  std::unique_ptr<controller::ControllerLoop> loop_;
  absl::Time next_tick_ = absl::InfiniteFuture();
};

}  // namespace studio::sim
