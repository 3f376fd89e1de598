#include "controller/commands.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <iostream>

#include "common/status/grpc_status.h"
#include "controller/backup/backup.h"
#include "controller/backup/verify.h"
#include "proto/studio/v1/controller.grpc.pb.h"

namespace studio::controller {
namespace {

int Failed(const absl::Status& status) {
  std::cerr << "studio-controller: " << status.message() << "\n";
  return 1;
}

}  // namespace

int Backup(const std::string& address, const std::string& name) {
  const auto stub = v1::Controller::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  // Blobs are linked, not copied: even a large one is there in minutes.
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(1));
  v1::CreateBackupRequest request;
  request.set_name(name);
  v1::Backup backup;
  const absl::Status status = FromGrpc(stub->CreateBackup(&context, request, &backup));
  if (absl::IsUnavailable(status)) {
    std::cerr << "studio-controller: no controller answers at " << address << "; a stopped one's state folder can be "
              << "copied as it is\n";
    return 1;
  }
  if (!status.ok()) return Failed(status);
  std::cout << backup.folder() << "\n"
            << backup.jobs() << " jobs, " << backup.blobs() << " files of " << backup.blob_bytes() << " bytes\n";
  return 0;
}

int Restore(const std::string& backup, const std::string& state_dir) {
  const absl::Status status = RestoreBackup(backup, state_dir);
  if (!status.ok()) return Failed(status);
  std::cout << "restored to " << state_dir << "; start it with: studio-controller --state-dir " << state_dir << "\n";
  return 0;
}

int Verify(const std::string& folder) {
  const absl::StatusOr<Verified> found = VerifyFolder(folder);
  if (!found.ok()) return Failed(found.status());
  for (const std::string& problem : found->problems) std::cout << problem << "\n";
  std::cout << folder << ": " << found->jobs << " jobs, " << found->archived << " archived, " << found->blobs
            << " files of " << found->blob_bytes << " bytes, " << found->problems.size() << " problems\n";
  return found->problems.empty() ? 0 : 1;
}

}  // namespace studio::controller
