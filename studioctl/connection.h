// The controller, as commands call it: one channel, deadlines, and errors that say what to do.
//
//   Connection connection(settings, console);
//   ASSIGN_OR_RETURN(v1::JobRecord record, connection.Get("j7"));
//
// Blocking calls; one thread.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/artifact/transfer_client.h"
#include "proto/studio/v1/controller.grpc.pb.h"
#include "studioctl/console.h"
#include "studioctl/settings.h"

namespace studio::ctl {

class Connection {
 public:
  Connection(const Settings& settings, Console& console);

  v1::Controller::Stub& stub() { return *stub_; }
  Console& console() { return console_; }
  const std::string& address() const { return address_; }

  // Whether this program and the controller speak a protocol that both know; asked before the first call.
  // FailedPrecondition names both and the remedy.
  absl::Status Check();

  // A unary call: (context, response) → status, by the deadline.
  template <typename Response>
  absl::StatusOr<Response> Call(const std::function<grpc::Status(grpc::ClientContext&, Response&)>& call,
                                absl::Duration deadline = absl::Seconds(30)) {
    if (const absl::Status checked = Check(); !checked.ok()) return checked;
    return CallNow(call, deadline);
  }

  absl::StatusOr<v1::JobRecord> Get(const std::string& id);
  // Of whatever controller is there, whether the two understand each other or not.
  absl::StatusOr<v1::GetVersionResponse> Version();
  // A client of the transfer service that the controller announces.
  absl::StatusOr<std::unique_ptr<TransferClient>> Transfers(const v1::GetVersionResponse& version);

  // With the address and the remedy where the controller cannot be reached.
  absl::Status Explained(const grpc::Status& status) const;

 private:
  template <typename Response>
  absl::StatusOr<Response> CallNow(const std::function<grpc::Status(grpc::ClientContext&, Response&)>& call,
                                   absl::Duration deadline) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + deadline));
    Response response;
    const Interrupt::Scope scope(console_.interrupt, [&] { context.TryCancel(); });
    const grpc::Status status = call(context, response);
    if (!status.ok()) return Explained(status);
    return response;
  }

  const std::string address_;
  Console& console_;
  const std::unique_ptr<v1::Controller::Stub> stub_;
  bool asked_ = false;
  absl::Status agreement_;
};

// A channel that comes back soon after a restart, takes large lists, and never goes to a loopback through a proxy.
std::shared_ptr<grpc::Channel> Dial(const std::string& address);

}  // namespace studio::ctl
