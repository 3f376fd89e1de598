#include "common/artifact/content_store.h"

#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "common/artifact/file_tree.h"
#include "common/artifact/sha256.h"
#include "common/artifact/test_folder.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::HasSubstr;

v1::FileRef Ref(const std::string& bytes, const std::string& path = "file") {
  v1::FileRef file;
  file.set_path(path);
  file.set_size_bytes(bytes.size());
  file.set_sha256(Sha256Hex(bytes));
  return file;
}

class ContentStoreTest : public testing::Test {
 protected:
  void SetUp() override { Reopen(); }
  void Reopen(ContentStore::Options options = {}) {
    store_.reset();
    ASSERT_OK_AND_ASSIGN(store_, ContentStore::Open(folder_.Path("store"), options));
  }
  absl::Status PutAll(const std::string& bytes) {
    auto writer = store_->Put(Ref(bytes), 0);
    if (!writer.ok()) return writer.status();
    if (absl::Status status = (*writer)->Append(bytes); !status.ok()) return status;
    return (*writer)->Commit();
  }
  // As if it had been written two hours ago.
  void Age(const std::string& name) {
    std::filesystem::last_write_time(folder_.Path(name),
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(2));
  }
  int64_t Freed(const std::string& sha256) { return store_->RemoveUntouched(sha256, absl::Hours(1)).value_or(-1); }
  std::string Stored(const std::string& sha256) {
    return folder_.Read("store/blobs/" + sha256.substr(0, 2) + "/" + sha256);
  }

  TestFolder folder_;
  std::unique_ptr<ContentStore> store_;
};

TEST_F(ContentStoreTest, KeepsABlobUnderItsHash) {
  EXPECT_FALSE(store_->Has(Sha256Hex("abc")));
  ASSERT_OK(PutAll("abc"));
  EXPECT_TRUE(store_->Has(Sha256Hex("abc")));
  EXPECT_EQ(store_->HaveBytes(Sha256Hex("abc")), 3);
  EXPECT_EQ(Stored(Sha256Hex("abc")), "abc");
  EXPECT_EQ(store_->TotalBytes(), 3);
  ASSERT_OK(PutAll("abc"));
  EXPECT_EQ(store_->TotalBytes(), 3);
  Reopen();
  EXPECT_TRUE(store_->Has(Sha256Hex("abc")));
  EXPECT_EQ(store_->TotalBytes(), 3);
}

TEST_F(ContentStoreTest, KeepsAnEmptyBlob) {
  ASSERT_OK(PutAll(""));
  EXPECT_TRUE(store_->Has(Sha256Hex("")));
}

TEST_F(ContentStoreTest, ResumesACutOffPutEvenAfterARestart) {
  const std::string bytes = "0123456789";
  {
    ASSERT_OK_AND_ASSIGN(const auto writer, store_->Put(Ref(bytes), 0));
    ASSERT_OK(writer->Append("01234"));
  }
  Reopen();
  EXPECT_FALSE(store_->Has(Sha256Hex(bytes)));
  EXPECT_EQ(store_->HaveBytes(Sha256Hex(bytes)), 5);
  ASSERT_OK_AND_ASSIGN(const auto writer, store_->Put(Ref(bytes), 3));
  ASSERT_OK(writer->Append("3456789"));
  ASSERT_OK(writer->Commit());
  EXPECT_EQ(Stored(Sha256Hex(bytes)), bytes);
}

TEST_F(ContentStoreTest, KeepsNothingOfWrongBytes) {
  ASSERT_OK_AND_ASSIGN(const auto writer, store_->Put(Ref("abc"), 0));
  ASSERT_OK(writer->Append("abd"));
  EXPECT_THAT(writer->Commit(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("nothing was kept")));
  EXPECT_FALSE(store_->Has(Sha256Hex("abc")));
  EXPECT_FALSE(store_->Has(Sha256Hex("abd")));
  EXPECT_TRUE(std::filesystem::is_empty(folder_.Path("store/partial")));
}

TEST_F(ContentStoreTest, RefusesMoreBytesThanPromised) {
  ASSERT_OK_AND_ASSIGN(const auto writer, store_->Put(Ref("abc"), 0));
  EXPECT_THAT(writer->Append("abcd"), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("more than the 3 bytes")));
}

TEST_F(ContentStoreTest, KeepsWhatCameOfAShortPut) {
  ASSERT_OK_AND_ASSIGN(auto writer, store_->Put(Ref("abc"), 0));
  ASSERT_OK(writer->Append("ab"));
  EXPECT_THAT(writer->Commit(), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("2 of 3 bytes")));
  writer.reset();
  EXPECT_EQ(store_->HaveBytes(Sha256Hex("abc")), 2);
}

TEST_F(ContentStoreTest, RefusesAnOffsetPastWhatItHas) {
  EXPECT_THAT(store_->Put(Ref("abc"), 1), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("offset 1 of 3")));
  EXPECT_THAT(store_->Put(Ref("abc"), -1), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("offset -1")));
}

TEST_F(ContentStoreTest, RefusesAHashThatIsAPath) {
  v1::FileRef file = Ref("abc");
  file.set_sha256("../../../../etc/passwd");
  EXPECT_THAT(store_->Put(file, 0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a SHA-256")));
  EXPECT_FALSE(store_->Has("../lock"));
  EXPECT_THAT(store_->BlobPath("../lock"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a SHA-256")));
}

TEST_F(ContentStoreTest, NamesItsLimits) {
  ContentStore::Options options;
  options.max_blob_bytes = 4;
  options.quota_bytes = 6;
  Reopen(options);
  EXPECT_THAT(PutAll("12345"),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("more than the store takes, 4")));
  ASSERT_OK(PutAll("1234"));
  EXPECT_THAT(PutAll("123"), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("4 of 6 bytes are used")));
}

TEST_F(ContentStoreTest, TwoPutsOfOneBlobDoNotMix) {
  ASSERT_OK_AND_ASSIGN(auto first, store_->Put(Ref("abc"), 0));
  ASSERT_OK(first->Append("a"));
  EXPECT_EQ(store_->HaveBytes(Sha256Hex("abc")), 0);
  ASSERT_OK_AND_ASSIGN(auto second, store_->Put(Ref("abc"), 0));
  ASSERT_OK(second->Append("abc"));
  ASSERT_OK(second->Commit());
  ASSERT_OK(first->Append("bc"));
  ASSERT_OK(first->Commit());
  first.reset();
  second.reset();
  EXPECT_EQ(Stored(Sha256Hex("abc")), "abc");
  EXPECT_EQ(store_->TotalBytes(), 3);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.Path("store/partial")));
}

TEST_F(ContentStoreTest, IsOfOneProcessAtATime) {
  EXPECT_THAT(ContentStore::Open(folder_.Path("store"), {}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another process")));
}

TEST_F(ContentStoreTest, VerifyRemovesWhatTheDiskSpoiled) {
  ASSERT_OK(PutAll("abc"));
  ASSERT_OK(store_->Verify(Sha256Hex("abc")));
  ASSERT_OK_AND_ASSIGN(const std::string path, store_->BlobPath(Sha256Hex("abc")));
  chmod(path.c_str(), 0644);
  std::ofstream(path) << "abd";
  EXPECT_THAT(store_->Verify(Sha256Hex("abc")), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("send it again")));
  EXPECT_FALSE(store_->Has(Sha256Hex("abc")));
}

TEST_F(ContentStoreTest, PlacesLinksOrCopiesOverWhatIsThere) {
  ASSERT_OK(PutAll("abc"));
  v1::Artifact artifact;
  *artifact.add_files() = Ref("abc", "sub/a");
  *artifact.add_files() = Ref("abc", "b");
  ASSERT_OK(store_->PlaceInFolder(artifact, folder_.Path("linked"), ContentStore::Mode::kLink));
  folder_.Write("copied/b", "old");
  ASSERT_OK(store_->PlaceInFolder(artifact, folder_.Path("copied"), ContentStore::Mode::kCopy));
  ASSERT_OK(store_->PlaceInFolder(artifact, folder_.Path("copied"), ContentStore::Mode::kLink));
  ASSERT_OK(store_->PlaceInFolder(artifact, folder_.Path("copied"), ContentStore::Mode::kCopy));
  for (const char* placed : {"linked/sub/a", "linked/b", "copied/sub/a", "copied/b"}) {
    EXPECT_EQ(folder_.Read(placed), "abc") << placed;
  }
  EXPECT_EQ(std::filesystem::hard_link_count(folder_.Path("linked/b")), 3u);
  EXPECT_EQ(std::filesystem::hard_link_count(folder_.Path("copied/b")), 1u);
}

TEST_F(ContentStoreTest, RemovesABlobThatNobodyTouchedForLong) {
  const std::string old = Sha256Hex("old"), wanted = Sha256Hex("wanted");
  ASSERT_OK(PutAll("old"));
  ASSERT_OK(PutAll("wanted"));
  ASSERT_OK(PutAll("young"));
  for (const std::string& sha256 : {old, wanted}) Age("store/blobs/" + sha256.substr(0, 2) + "/" + sha256);
  EXPECT_THAT(store_->Untouched(absl::Hours(1)), testing::UnorderedElementsAre(old, wanted));
  EXPECT_TRUE(store_->Touch(wanted));
  EXPECT_EQ(Freed(wanted), 0);
  EXPECT_EQ(Freed(Sha256Hex("young")), 0);
  {
    const ContentStore::KeepAll backup(*store_);
    EXPECT_EQ(Freed(old), 0);
  }
  EXPECT_EQ(Freed(old), 3);
  EXPECT_EQ(Freed(old), 0);
  EXPECT_FALSE(store_->Touch(old));
  EXPECT_FALSE(store_->Has(old));
  EXPECT_EQ(store_->TotalBytes(), 11);
}

TEST_F(ContentStoreTest, APutThatIsUnderWayHoldsItsBlob) {
  ASSERT_OK(PutAll("abc"));
  const std::string sha256 = Sha256Hex("abc");
  Age("store/blobs/" + sha256.substr(0, 2) + "/" + sha256);
  {
    ASSERT_OK_AND_ASSIGN(const auto writer, store_->Put(Ref("abc"), 0));
    EXPECT_EQ(Freed(sha256), 0);
    ASSERT_OK(writer->Append("abc"));
    ASSERT_OK(writer->Commit());
  }
  EXPECT_EQ(Freed(sha256), 0);  // new again
}

TEST_F(ContentStoreTest, RemovesTheBeginningThatNobodyGoesOnWith) {
  const std::string sha256 = Sha256Hex("abc");
  ASSERT_OK_AND_ASSIGN(auto writer, store_->Put(Ref("abc"), 0));
  ASSERT_OK(writer->Append("ab"));
  Age("store/partial/" + sha256);
  EXPECT_EQ(store_->RemovePartials(absl::Hours(1)), 0);  // it is being put
  writer.reset();
  EXPECT_EQ(store_->RemovePartials(absl::Hours(3)), 0);
  EXPECT_EQ(store_->RemovePartials(absl::Hours(1)), 2);
  EXPECT_EQ(store_->HaveBytes(sha256), 0);
}

TEST_F(ContentStoreTest, NamesTheMissingFile) {
  v1::Artifact artifact;
  *artifact.add_files() = Ref("abc", "model.safetensors");
  EXPECT_THAT(store_->PlaceInFolder(artifact, folder_.Path("out"), ContentStore::Mode::kLink),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.safetensors: no blob")));
}

TEST_F(ContentStoreTest, ACopiedClientsFileMayChangeAfterwards) {
  const std::string path = folder_.Write("rows.jsonl", "abc");
  ASSERT_OK_AND_ASSIGN(const v1::FileRef copied, store_->Add(path, "data/rows.jsonl", ContentStore::Mode::kCopy));
  EXPECT_EQ(copied.path(), "data/rows.jsonl");
  folder_.Write("rows.jsonl", "changed");
  EXPECT_OK(store_->Verify(copied.sha256()));
  const std::string result = folder_.Write("adapter", "xyz");
  ASSERT_OK_AND_ASSIGN(const v1::FileRef linked, store_->Add(result, "adapter", ContentStore::Mode::kLink));
  EXPECT_EQ(std::filesystem::hard_link_count(result), 2u);
  EXPECT_EQ(store_->TotalBytes(), 6);
}

}  // namespace
}  // namespace studio
