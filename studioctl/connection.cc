#include "studioctl/connection.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"
#include "common/version/version.h"

namespace studio::ctl {

std::shared_ptr<grpc::Channel> Dial(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // Not MIN_RECONNECT_BACKOFF: gRPC takes it as the time that one attempt may last, and a far or slow controller needs
  // more.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // Whatever a stream waits for, a machine that is gone without a word is noticed.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  for (const char* loopback : {"127.", "localhost", "[::1]"}) {
    if (absl::StartsWith(address, loopback)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  }
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

Connection::Connection(const Settings& settings, Console& console)
    : address_(settings.controller), console_(console), stub_(v1::Controller::NewStub(Dial(settings.controller))) {}

absl::Status Connection::Explained(const grpc::Status& status) const {
  const absl::Status found = FromGrpc(status);
  // CANCELLED, asked for by nobody here: a controller that stops before it answers.
  if (absl::IsUnavailable(found) || (absl::IsCancelled(found) && !console_.interrupt.raised())) {
    return absl::UnavailableError(absl::StrCat("the controller at ", address_, " cannot be reached (", found.message(),
                                               "): is it running? --controller or STUDIO_CONTROLLER names another"));
  }
  if (absl::IsDeadlineExceeded(found)) {
    return absl::DeadlineExceededError(absl::StrCat("the controller at ", address_, " did not answer in time"));
  }
  return found;
}

absl::StatusOr<v1::JobRecord> Connection::Get(const std::string& id) {
  v1::GetJobRequest request;
  request.set_id(id);
  return Call<v1::JobRecord>(
      [&](grpc::ClientContext& context, v1::JobRecord& record) { return stub_->GetJob(&context, request, &record); });
}

absl::StatusOr<v1::GetVersionResponse> Connection::Version() {
  absl::StatusOr<v1::GetVersionResponse> version = CallNow<v1::GetVersionResponse>(
      [&](grpc::ClientContext& context, v1::GetVersionResponse& response) {
        return stub_->GetVersion(&context, {}, &response);
      },
      absl::Seconds(30));
  if (!version.ok()) return version;
  const std::string differ =
      ProtocolsDiffer("this studioctl", kMinProtocol, kMaxProtocol,
                      absl::StrCat("the controller at ", address_, " (version ", version->version(), ")"),
                      version->min_protocol(), version->max_protocol());
  agreement_ = differ.empty() ? absl::OkStatus() : absl::FailedPreconditionError(differ);
  asked_ = true;
  return version;
}

absl::Status Connection::Check() {
  if (!asked_) RETURN_IF_ERROR(Version().status());
  return agreement_;
}

absl::StatusOr<std::unique_ptr<TransferClient>> Connection::Transfers(const v1::GetVersionResponse& version) {
  RETURN_IF_ERROR(Check());
  if (version.transfer_address().empty()) {
    return absl::FailedPreconditionError(absl::StrCat("the controller at ", address_, " takes no files"));
  }
  TransferClient::Options options;
  options.stop = &console_.interrupt.flag();
  return std::make_unique<TransferClient>(Dial(TransferAddress(address_, version.transfer_address())), options);
}

}  // namespace studio::ctl
