#include "controller/api/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <mutex>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "common/time/clock.h"
#include "common/version/version.h"
#include "controller/api/authorize.h"
#include "controller/backup/backup.h"
#include "controller/backup/state_folder.h"

namespace studio::controller {
namespace {

std::string HostOf(const std::string& address) { return address.substr(0, address.rfind(':')); }

// As clients are told it: an empty host stands for the one that they dialled, where that will do.
std::string Advertised(const std::string& transfers, const std::string& listen) {
  const std::string host = HostOf(transfers);
  const bool same = host == HostOf(listen) || host == "0.0.0.0" || host == "[::]";
  return same ? transfers.substr(transfers.rfind(':')) : transfers;
}

absl::Status CheckAddress(const std::string& flag, const std::string& address, bool insecure) {
  if (address.rfind(':') == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(flag, " ", address, ": write it as HOST:PORT"));
  }
  if (IsLoopback(address) || insecure) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      flag, " ", address, " can be reached from other machines, and there are no credentials yet: whoever ",
      "reaches it can run jobs. Listen on 127.0.0.1, or say --insecure on a network that you trust"));
}

void SetUp(grpc::ServerBuilder& builder) {
  // Two controllers on one port would each get half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Workers ping to learn of dead connections; gRPC's default would hang up on them for it.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.SetMaxReceiveMessageSize(64 << 20);
  // Of one connection; more wait at the client.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1000);
}

absl::StatusOr<std::unique_ptr<grpc::Server>> Build(grpc::ServerBuilder& builder, const std::string& address,
                                                    std::string& bound) {
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": is another controller running there?"));
  }
  bound = absl::StrCat(HostOf(address), ":", port);
  return server;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerOptions options) {
  RETURN_IF_ERROR(CheckAddress("--listen", options.listen, options.insecure));
  RETURN_IF_ERROR(CheckAddress("--transfer-listen", options.transfer_listen, options.insecure));
  if (!options.metrics_listen.empty()) {
    RETURN_IF_ERROR(CheckAddress("--metrics-listen", options.metrics_listen, options.insecure));
  }
  std::unique_ptr<Server> server(new Server(std::move(options)));
  RETURN_IF_ERROR(server->Open());
  RETURN_IF_ERROR(server->Listen());
  return server;
}

Server::~Server() { Stop(); }

absl::Status Server::Open() {
  const std::string& folder = options_.state_dir;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat("--state-dir ", folder, ": ", error.message()));
  // The jobs' data and their owners' logs are nobody else's business.
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  ContentStore::Options content;
  content.quota_bytes = options_.max_content_bytes;
  content.on_sync_failure = [this](const absl::Status& status) {
    spdlog::error("{}: stopping. What was answered is stored; see to the disk, then start again",
                  std::string(status.message()));
    if (options_.on_failure) options_.on_failure(status);
  };
  ASSIGN_OR_RETURN(content_, ContentStore::Open(absl::StrCat(folder, "/", kContentFolder), content));
  ASSIGN_OR_RETURN(store_, SqliteStore::Open(absl::StrCat(folder, "/", kDatabaseFile)));
  logs_ = std::make_unique<AttemptLogs>(absl::StrCat(folder, "/", kLogsFolder));
  return absl::OkStatus();
}

// The loop, with everything stored in it, on its own thread.
absl::Status Server::Load() {
  LoopOptions loop;
  // Leases must not end because somebody sets the clock.
  loop.now = [clock = SteadyClock()] { return clock.Now(); };
  loop.post = [this](std::function<void()> task) { executor_->Post(std::move(task)); };
  loop.post_logs = [this](std::function<void()> task) { log_executor_->Post(std::move(task)); };
  loop.has_blob = [this](const v1::FileRef& file) { return content_->Has(file.sha256()); };
  loop.remove_blob = [this](const std::string& sha256, absl::Duration untouched) -> int64_t {
    const absl::StatusOr<int64_t> bytes = content_->RemoveUntouched(sha256, untouched);
    if (!bytes.ok()) spdlog::warn("{}", std::string(bytes.status().message()));
    return bytes.value_or(0);
  };
  loop.on_failure = options_.on_failure ? options_.on_failure : [](const absl::Status&) {};
  loop.superseded_grace = options_.keep_superseded;
  loop.keep_jobs = options_.keep_jobs;
  loop.keep_ended = options_.keep_ended;
  loop.session = options_.session;
  loop.session.version = kVersion;
  loop.session.transfer_address = Advertised(transfer_address_, options_.listen);
  loop_ = std::make_unique<ControllerLoop>(*store_, *logs_, std::move(loop));
  executor_ = std::make_unique<Executor>([this] { return loop_->Tick(); });
  log_executor_ = std::make_unique<Executor>();
  std::promise<absl::Status> started;
  executor_->Post([&] { started.set_value(loop_->Start()); });
  return started.get_future().get();
}

absl::Status Server::Listen() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
  transfer_service_ = std::make_unique<TransferService>(
      *content_,
      TransferService::Options{.authorize = [](const grpc::CallbackServerContext& context, const std::string& action) {
        return Authorize(Identify(context), action, "");
      }});
  grpc::ServerBuilder transfer_builder;
  SetUp(transfer_builder);
  transfer_builder.RegisterService(transfer_service_.get());
  ASSIGN_OR_RETURN(transfer_server_, Build(transfer_builder, options_.transfer_listen, transfer_address_));

  RETURN_IF_ERROR(Load());
  v1::GetVersionResponse version;
  version.set_version(kVersion);
  version.set_min_protocol(kMinProtocol);
  version.set_max_protocol(kMaxProtocol);
  version.set_transfer_address(Advertised(transfer_address_, options_.listen));
  version.set_max_blob_bytes(content_->max_blob_bytes());
  controller_service_ = std::make_unique<ControllerService>(ControllerService::Options{
      .executor = *executor_,
      .log_executor = *log_executor_,
      .loop = *loop_,
      .logs = *logs_,
      .version = version,
      .write_backup =
          [this](const std::string& name) { return WriteBackup(*store_, *content_, options_.state_dir, name); },
      .slow_after = options_.slow_after});
  worker_service_ = std::make_unique<WorkerService>(*executor_, *loop_);
  grpc::ServerBuilder builder;
  SetUp(builder);
  builder.RegisterService(controller_service_.get());
  builder.RegisterService(worker_service_.get());
  ASSIGN_OR_RETURN(server_, Build(builder, options_.listen, address_));
  if (!options_.metrics_listen.empty()) {
    ASSIGN_OR_RETURN(metrics_, MetricsServer::Start(options_.metrics_listen, [this] { return Metrics(); }));
  }
  housekeeper_ = std::make_unique<Housekeeper>(options_.housekeeping, [this] { KeepHouse(); });
  return absl::OkStatus();
}

// On the housekeeper's thread: what reads whole folders. What goes is decided by the loop.
void Server::KeepHouse() {
  content_->RemovePartials(options_.keep_uploads);
  executor_->Post([this, unnamed = content_->Untouched(options_.keep_uploads)] {
    loop_->CollectUploads(unnamed, options_.keep_uploads);
  });
  executor_->Post([this, old = logs_->Untouched(options_.keep_logs)] {
    log_executor_->Post([this, gone = loop_->NotInMemory(old)] {
      for (const std::string& id : gone) {
        if (const absl::Status status = logs_->Remove(id); !status.ok()) {
          spdlog::warn("{}", std::string(status.message()));
        }
      }
    });
  });
}

// Counted where it is decided, so printed there, too.
std::string Server::Metrics() {
  auto printed = std::make_shared<std::promise<std::string>>();
  executor_->Post([this, printed] {
    MetricsText text;
    loop_->Describe(text);
    store_->Describe(text);
    text.Gauge("studio_content_bytes", "Bytes in the content store.", {}, static_cast<double>(content_->TotalBytes()));
    printed->set_value(std::move(text).Take());
  });
  std::future<std::string> page = printed->get_future();
  // A controller that stops runs nothing that is posted any more.
  return page.wait_for(std::chrono::seconds(5)) == std::future_status::ready ? page.get() : "";
}

void Server::Stop() {
  metrics_.reset();
  housekeeper_.reset();
  // Long streams would hold the ports open until the deadline: they are told to go first.
  const absl::Status stopping = absl::UnavailableError("the controller is stopping; dial again");
  if (controller_service_ != nullptr) controller_service_->EndStreams(stopping);
  if (loop_ != nullptr && executor_ != nullptr) executor_->Post([=, this] { loop_->CloseStreams(stopping); });
  const auto deadline = std::chrono::system_clock::now() + std::chrono::seconds(2);
  for (grpc::Server* server : {server_.get(), transfer_server_.get()}) {
    if (server == nullptr) continue;
    if (server->GetHealthCheckService() != nullptr) server->GetHealthCheckService()->Shutdown();
    server->Shutdown(deadline);
    server->Wait();
  }
  server_.reset();
  transfer_server_.reset();
  // Nobody calls any more. What is decided becomes durable when the store ends; what it answers then, nobody hears.
  if (executor_ != nullptr) executor_->Stop();
  if (log_executor_ != nullptr) log_executor_->Stop();
  store_.reset();
  loop_.reset();
}

}  // namespace studio::controller
