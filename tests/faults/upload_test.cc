// An upload that ends half way (the client is killed, the connection breaks) goes on from where it was, and what is
// stored in the end has the hash that its client told.
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/artifact/sha256.h"
#include "common/env/posix_launcher.h"
#include "common/status/testing.h"
#include "common/time/patience.h"
#include "tests/faults/fault_proxy.h"
#include "tests/integration/cluster.h"

namespace studio {
namespace {

constexpr int64_t kBytes = 48 << 20, kHalf = 20 << 20;
// What was on its way when the connection was reset (sockets hold a few MiB), and what a call says beside the bytes.
constexpr int64_t kSlack = 8 << 20;

class UploadTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/studio-upload-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    cluster_.emplace(folder_, Cluster::Binaries{});
    ASSERT_OK(cluster_->StartController());
    // The controller tells clients the port of its transfers; they dial it at the host where they found the API.
    ASSERT_OK_AND_ASSIGN(api_, FaultProxy::Start(cluster_->address(), "127.0.0.2:0"));
    ASSERT_OK_AND_ASSIGN(way_, FaultProxy::Start(cluster_->transfer_address(),
                                                 absl::StrCat("127.0.0.2:", PortOf(cluster_->transfer_address()))));
    ASSERT_OK_AND_ASSIGN(job_, cluster_->WriteJob({}));
    const std::string rows = folder_ + "/client/rows.jsonl";
    std::mt19937_64 random(1);
    {
      std::ofstream file(rows, std::ios::binary);
      for (int64_t i = 0; i < kBytes / 8; ++i) {
        const uint64_t word = random();
        file.write(reinterpret_cast<const char*>(&word), sizeof word);
      }
    }
    ASSERT_OK_AND_ASSIGN(hash_, Sha256OfFile(rows));
  }
  void TearDown() override {
    client_.reset();
    cluster_.reset();
    std::filesystem::remove_all(folder_);
  }

  static std::string PortOf(const std::string& address) { return address.substr(address.rfind(':') + 1); }
  std::string Partial() const { return absl::StrCat(folder_, "/controller/content/partial/", hash_); }

  void Submit() {
    LaunchSpec spec;
    spec.argv = {std::filesystem::absolute("studioctl/studioctl").string(), "submit", job_, "--request-id", "the one"};
    spec.environment = EnvironmentWith({"STUDIO_CONTROLLER=" + api_->address(), "HOME=" + folder_});
    absl::StatusOr<std::unique_ptr<Process>> client = launcher_.Launch(spec);
    ASSERT_OK(client);
    client_ = *std::move(client);
  }
  // Half of the file is at the controller, which knows that its client is gone.
  void KillClientHalfWay() {
    way_->HoldAfter(kHalf);
    Submit();
    ASSERT_OK(way_->AwaitHeld());
    client_->Kill(SIGKILL);
    client_.reset();
    way_->Cut();
    way_->Hold(false, false);
  }
  void SubmitAll() {
    ASSERT_OK_AND_ASSIGN(const Cluster::Ctl ctl, cluster_->RunCtl({"--controller", api_->address(), "submit", job_,
                                                                   "--request-id", "the one"}));
    ASSERT_EQ(ctl.exit_code, 0) << ctl.output;
  }
  void ExpectStored() {
    cluster_->KillController();
    EXPECT_OK(cluster_->VerifyController());
    EXPECT_FALSE(std::filesystem::exists(Partial()));
    const std::string blob = absl::StrCat(folder_, "/controller/content/blobs/", hash_.substr(0, 2), "/", hash_);
    ASSERT_OK_AND_ASSIGN(const std::string stored, Sha256OfFile(blob));
    EXPECT_EQ(stored, hash_);
  }

  std::string folder_, job_, hash_;
  PosixLauncher launcher_;
  std::optional<Cluster> cluster_;
  std::unique_ptr<FaultProxy> api_, way_;
  std::unique_ptr<Process> client_;
};

TEST_F(UploadTest, AConnectionThatBreaksHalfWayIsGoneOnWith) {
  way_->HoldAfter(kHalf);
  Submit();
  ASSERT_OK(way_->AwaitHeld());
  way_->Cut();
  way_->Hold(false, false);
  pollfd ended = {client_->ended(), POLLIN, 0};
  ASSERT_EQ(poll(&ended, 1, static_cast<int>(absl::ToInt64Milliseconds(Patience(absl::Minutes(1))))), 1);
  EXPECT_EQ(client_->Reap(), (ProcessEnd{0, 0}));
  EXPECT_LT(way_->bytes_up(), kBytes + kSlack) << "some of it went twice";
  ExpectStored();
}

TEST_F(UploadTest, WhatAKilledClientHadSentIsNotSentAgain) {
  KillClientHalfWay();
  const int64_t before = way_->bytes_up();
  SubmitAll();
  EXPECT_LT(way_->bytes_up() - before, kBytes - kHalf + kSlack);
  ExpectStored();
}

TEST_F(UploadTest, AHalfThatTheDiskLostPartOfIsGoneOnWithFromWhatIsLeft) {
  KillClientHalfWay();
  cluster_->KillController();
  std::filesystem::resize_file(Partial(), kHalf / 2);
  ASSERT_OK(cluster_->StartController());
  const int64_t before = way_->bytes_up();
  SubmitAll();
  EXPECT_GT(way_->bytes_up() - before, kBytes - kHalf / 2);
  EXPECT_LT(way_->bytes_up() - before, kBytes - kHalf / 2 + kSlack);
  ExpectStored();
}

TEST_F(UploadTest, AHalfThatTheDiskChangedIsThrownAwayAndSentAnew) {
  KillClientHalfWay();
  cluster_->KillController();
  {
    std::fstream file(Partial(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(kHalf / 2);
    file.write(std::string(512, '\0').data(), 512);
  }
  ASSERT_OK(cluster_->StartController());
  SubmitAll();
  ExpectStored();
}

}  // namespace
}  // namespace studio
