// The service and the client over real gRPC on the loopback.
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/artifact/content_store.h"
#include "common/artifact/file_tree.h"
#include "common/artifact/sha256.h"
#include "common/artifact/test_folder.h"
#include "common/artifact/transfer_client.h"
#include "common/artifact/transfer_service.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::HasSubstr;

// Bytes that differ along the way, so that a misplaced chunk shows.
std::string Pattern(size_t size) {
  std::string bytes(size, 0);
  uint32_t state = 1;
  for (char& c : bytes) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

v1::FileRef Ref(const std::string& bytes) {
  v1::FileRef file;
  file.set_path("file");
  file.set_size_bytes(bytes.size());
  file.set_sha256(Sha256Hex(bytes));
  return file;
}

class TransferTest : public testing::Test {
 protected:
  void SetUp() override { Start({}, {}); }
  void TearDown() override { Stop(); }

  void Start(const ContentStore::Options& store_options, const TransferService::Options& service_options) {
    Stop();
    ASSERT_OK_AND_ASSIGN(store_, ContentStore::Open(folder_.Path("store"), store_options));
    service_ = std::make_unique<TransferService>(*store_, service_options);
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
    stub_ = v1::Transfer::NewStub(channel_);
    TransferClient::Options options;
    options.attempts = 3;
    options.backoff = absl::Milliseconds(1);
    client_ = std::make_unique<TransferClient>(channel_, options);
  }
  void Stop() {
    if (server_ != nullptr) server_->Shutdown();
    server_.reset();
    service_.reset();
    store_.reset();
  }
  // A model folder of a large, a small and an empty file, and one that repeats another's bytes.
  v1::Artifact Model() {
    folder_.Write("model/model.safetensors", Pattern(5'000'001));
    folder_.Write("model/config.json", "{}");
    folder_.Write("model/sub/empty", "");
    folder_.Write("model/sub/again.json", "{}");
    return *HashTree(folder_.Path("model"), {});
  }
  // Sends raw messages, as no client of ours would.
  absl::Status RawUpload(const std::vector<v1::UploadRequest>& requests) {
    grpc::ClientContext context;
    v1::UploadResponse response;
    const auto stream = stub_->Upload(&context, &response);
    for (const v1::UploadRequest& request : requests) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
    const grpc::Status status = stream->Finish();
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  }

  TestFolder folder_;
  std::unique_ptr<ContentStore> store_;
  std::unique_ptr<TransferService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Transfer::Stub> stub_;
  std::unique_ptr<TransferClient> client_;
};

v1::UploadRequest Chunk(const v1::FileRef* file, int64_t offset, const std::string& data) {
  v1::UploadRequest request;
  if (file != nullptr) *request.mutable_file() = *file;
  request.set_offset(offset);
  request.set_data(data);
  return request;
}

TEST_F(TransferTest, AFolderGoesThereAndComesBackTheSame) {
  const v1::Artifact model = Model();
  int64_t done = 0, total = 0;
  ASSERT_OK(client_->Upload(folder_.Path("model"), model, [&](int64_t d, int64_t t) {
    EXPECT_GE(d, done);
    done = d;
    total = t;
  }));
  EXPECT_EQ(done, total);
  EXPECT_EQ(total, 5'000'005);
  for (const v1::FileRef& file : model.files()) EXPECT_OK(store_->Verify(file.sha256()));
  ASSERT_OK(client_->DownloadToFolder(model, folder_.Path("back"), {}));
  EXPECT_OK(VerifyTree(folder_.Path("back"), model));
  EXPECT_FALSE(folder_.Has("back/model.safetensors.part"));
}

TEST_F(TransferTest, ASingleFileKeepsItsName) {
  const std::string path = folder_.Write("rows.jsonl", "abc");
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(path, {}));
  ASSERT_OK(client_->Upload(path, artifact, {}));
  ASSERT_OK(client_->DownloadToFolder(artifact, folder_.Path("back"), {}));
  EXPECT_EQ(folder_.Read("back/rows.jsonl"), "abc");
}

TEST_F(TransferTest, WhatIsThereIsNotSentAgain) {
  const v1::Artifact model = Model();
  ASSERT_OK(client_->Upload(folder_.Path("model"), model, {}));
  std::filesystem::remove_all(folder_.Path("model"));  // nothing left to read from
  EXPECT_OK(client_->Upload(folder_.Path("model"), model, {}));
}

TEST_F(TransferTest, AHalfUploadGoesOnWhereItBroke) {
  const std::string bytes = Pattern(3'000'000);
  const std::string path = folder_.Write("file", bytes);
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(path, {}));
  const v1::FileRef& file = artifact.files(0);
  EXPECT_THAT(
      RawUpload({Chunk(&file, 0, bytes.substr(0, 1'000'000)), Chunk(nullptr, 0, bytes.substr(1'000'000, 500'000))}),
      StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("ended after 1500000 of 3000000")));
  EXPECT_EQ(store_->HaveBytes(file.sha256()), 1'500'000);
  Start({}, {});  // the controller restarts in between
  std::vector<int64_t> steps;
  ASSERT_OK(client_->Upload(path, artifact, [&](int64_t done, int64_t) { steps.push_back(done); }));
  EXPECT_GT(steps.front(), 1'500'000);
  EXPECT_OK(store_->Verify(file.sha256()));
}

TEST_F(TransferTest, WrongBytesAreRefusedAndNothingIsKept) {
  const v1::FileRef file = Ref("abc");
  EXPECT_THAT(RawUpload({Chunk(&file, 0, "abd")}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("nothing was kept")));
  EXPECT_FALSE(store_->Has(file.sha256()));
  EXPECT_EQ(store_->HaveBytes(file.sha256()), 0);
}

TEST_F(TransferTest, AWrongBeginningIsNotResumedForEver) {
  const std::string bytes = Pattern(2'000'000);
  const std::string path = folder_.Write("file", bytes);
  const v1::FileRef file = Ref(bytes);
  (void)RawUpload({Chunk(&file, 0, std::string(1'000'000, 'x'))});  // another client's lie, or a torn write
  ASSERT_EQ(store_->HaveBytes(file.sha256()), 1'000'000);
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(path, {}));
  ASSERT_OK(client_->Upload(path, artifact, {}));
  EXPECT_OK(store_->Verify(file.sha256()));
}

TEST_F(TransferTest, AFileThatChangedAfterItWasHashedIsRefused) {
  const std::string path = folder_.Write("file", "abc");
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(path, {}));
  folder_.Write("file", "abd");
  EXPECT_THAT(client_->Upload(path, artifact, {}), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("file: ")));
}

TEST_F(TransferTest, LimitsAreNamed) {
  ContentStore::Options options;
  options.max_blob_bytes = 10;
  Start(options, {});
  const std::string path = folder_.Write("file", "12345678901");
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(path, {}));
  EXPECT_THAT(client_->Upload(path, artifact, {}),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("11 bytes are more than the store takes, 10")));
  EXPECT_THAT(RawUpload({Chunk(&artifact.files(0), 0, "1")}),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("more than the store takes, 10")));
}

TEST_F(TransferTest, OddMessagesAreRefused) {
  const v1::FileRef file = Ref("abc");
  EXPECT_THAT(RawUpload({}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("names its file")));
  EXPECT_THAT(RawUpload({Chunk(nullptr, 0, "abc")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("names its file")));
  EXPECT_THAT(RawUpload({Chunk(&file, 2, "c")}), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("offset 2")));
  EXPECT_THAT(RawUpload({Chunk(&file, 0, "abcd")}), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("announced")));
  EXPECT_THAT(RawUpload({Chunk(&file, 0, std::string((1 << 20) + 1, 'x'))}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 1048576")));
}

TEST_F(TransferTest, DownloadNamesWhatIsMissingAndBadOffsets) {
  v1::Artifact artifact;
  *artifact.add_files() = Ref("abc");
  EXPECT_THAT(client_->DownloadToFolder(artifact, folder_.Path("back"), {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("file: no blob")));
  ASSERT_OK(store_->Add(folder_.Write("x", "abc"), "x", ContentStore::Mode::kCopy));
  grpc::ClientContext context;
  v1::DownloadRequest request;
  request.set_sha256(Sha256Hex("abc"));
  request.set_offset(4);
  const auto stream = stub_->Download(&context, request);
  v1::DownloadResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::OUT_OF_RANGE);
}

TEST_F(TransferTest, AHalfDownloadGoesOnAndASpoiledOneStartsAnew) {
  const v1::Artifact model = Model();
  ASSERT_OK(client_->Upload(folder_.Path("model"), model, {}));
  folder_.Write("back/model.safetensors.part", Pattern(5'000'001).substr(0, 2'000'000));
  folder_.Write("back/config.json.part", "x");
  folder_.Write("back/sub/again.json", "{ }");
  ASSERT_OK(client_->DownloadToFolder(model, folder_.Path("back"), {}));
  EXPECT_OK(VerifyTree(folder_.Path("back"), model));
}

TEST_F(TransferTest, BlobsGoFromStoreToStore) {
  const v1::Artifact model = Model();
  ASSERT_OK(client_->Upload(folder_.Path("model"), model, {}));
  ASSERT_OK_AND_ASSIGN(const auto other, ContentStore::Open(folder_.Path("other"), {}));
  ASSERT_OK(client_->DownloadToStore(model, *other, {}));
  for (const v1::FileRef& file : model.files()) EXPECT_OK(other->Verify(file.sha256()));
}

TEST_F(TransferTest, ManyClientsMaySendTheSameBlobAtOnce) {
  const v1::Artifact model = Model();
  std::vector<absl::Status> results(8);
  std::vector<std::thread> threads;
  for (absl::Status& result : results) {
    threads.emplace_back([&] { result = client_->Upload(folder_.Path("model"), model, {}); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) EXPECT_OK(result);
  for (const v1::FileRef& file : model.files()) EXPECT_OK(store_->Verify(file.sha256()));
  EXPECT_EQ(store_->TotalBytes(), 5'000'003);
}

TEST_F(TransferTest, EveryCallIsAuthorized) {
  TransferService::Options options;
  options.authorize = [](const grpc::CallbackServerContext&, const std::string& action) {
    return absl::PermissionDeniedError(action);
  };
  Start({}, options);
  const std::string path = folder_.Write("file", "abc");
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(path, {}));
  EXPECT_THAT(client_->Upload(path, artifact, {}),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("transfer.find")));
  EXPECT_THAT(RawUpload({Chunk(&artifact.files(0), 0, "abc")}),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("transfer.upload")));
  EXPECT_THAT(client_->DownloadToFolder(artifact, folder_.Path("back"), {}),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("transfer.download")));
}

TEST_F(TransferTest, AControllerThatIsAwayIsSaidSo) {
  const v1::Artifact model = Model();
  Stop();
  EXPECT_THAT(client_->Upload(folder_.Path("model"), model, {}), StatusIs(absl::StatusCode::kUnavailable, testing::_));
}

TEST_F(TransferTest, AStoppedTransferEnds) {
  const v1::Artifact model = Model();
  const std::atomic<bool> stop{true};
  TransferClient::Options options;
  options.stop = &stop;
  EXPECT_THAT(TransferClient(channel_, options).Upload(folder_.Path("model"), model, {}),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("stopped")));
}

TEST(TransferAddress, FillsInTheHostThatWasDialled) {
  EXPECT_EQ(TransferAddress("127.0.0.1:7070", ":7071"), "127.0.0.1:7071");
  EXPECT_EQ(TransferAddress("gpu.lan:7070", "0.0.0.0:7071"), "gpu.lan:7071");
  EXPECT_EQ(TransferAddress("[::1]:7070", "[::]:7071"), "[::1]:7071");
  EXPECT_EQ(TransferAddress("[::1]", ":7071"), "[::1]:7071");
  EXPECT_EQ(TransferAddress("127.0.0.1:7070", "files.lan:9"), "files.lan:9");
}

}  // namespace
}  // namespace studio
