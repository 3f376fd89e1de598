#include "worker/agent/cache.h"

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "common/artifact/sha256.h"
#include "common/artifact/test_folder.h"
#include "common/status/testing.h"

namespace studio::worker {
namespace {

namespace fs = std::filesystem;

class CacheTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(store_, ContentStore::Open(folder_.Path("content"), {})); }

  // A folder of 100 bytes that was last used so long ago.
  std::string Folder(const std::string& name, int hours_ago) {
    folder_.Write(name + "/file", std::string(100, name.back()));
    Used(name, hours_ago);
    return folder_.Path(name);
  }
  std::string Blob(const std::string& bytes, int hours_ago) {
    v1::FileRef file;
    file.set_path("file");
    file.set_size_bytes(static_cast<int64_t>(bytes.size()));
    file.set_sha256(Sha256Hex(bytes));
    auto writer = store_->Put(file, 0);
    EXPECT_OK(writer);
    EXPECT_OK((*writer)->Append(bytes));
    EXPECT_OK((*writer)->Commit());
    Used("content/blobs/" + file.sha256().substr(0, 2) + "/" + file.sha256(), hours_ago);
    return file.sha256();
  }
  void Used(const std::string& name, int hours_ago) {
    fs::last_write_time(folder_.Path(name), fs::file_time_type::clock::now() - std::chrono::hours(hours_ago));
  }
  // One round; returns the bytes that went.
  int64_t Trim(int64_t max_bytes, const CacheUse& use = {}) {
    Cache cache(folder_.Path(), *store_, max_bytes);
    const int64_t taken = cache.TakeAway(cache.LookAround(), use);
    cache.EmptyTrash();
    EXPECT_FALSE(folder_.Has("trash"));
    return taken;
  }

  TestFolder folder_;
  std::unique_ptr<ContentStore> store_;
};

TEST_F(CacheTest, DropsTheLeastRecentlyUsedUntilTheRestFits) {
  Folder("inputs/a", 3);
  Folder("data/b", 5);
  Folder("inputs/c", 1);
  const std::string blob = Blob(std::string(100, 'd'), 4);
  EXPECT_EQ(Trim(400), 0);
  EXPECT_EQ(Trim(250), 200);
  EXPECT_FALSE(folder_.Has("data/b"));
  EXPECT_FALSE(store_->Has(blob));
  EXPECT_TRUE(folder_.Has("inputs/a"));
  EXPECT_EQ(Trim(0), 200);
  EXPECT_FALSE(folder_.Has("inputs/c"));
}

TEST_F(CacheTest, NeverTakesWhatALiveAttemptUses) {
  CacheUse use;
  use.folders.insert(Folder("inputs/a", 3));
  use.blobs.insert(Blob(std::string(100, 'd'), 4));
  Folder("data/before", 2);
  Folder("data/now", 0);
  use.since = absl::Now() - absl::Hours(1);
  EXPECT_EQ(Trim(0, use), 100);
  EXPECT_TRUE(folder_.Has("inputs/a"));
  EXPECT_TRUE(folder_.Has("data/now"));
  EXPECT_FALSE(folder_.Has("data/before"));
  EXPECT_TRUE(store_->Has(*use.blobs.begin()));
}

TEST_F(CacheTest, LooksAtTheTimeAgainBeforeItTakesTokenShards) {
  Folder("data/a", 5);
  Cache cache(folder_.Path(), *store_, 0);
  const Cache::Look look = cache.LookAround();
  Used("data/a", 0);  // an attempt has found it meanwhile
  CacheUse use;
  use.since = absl::Now() - absl::Hours(1);
  EXPECT_EQ(cache.TakeAway(look, use), 0);
  EXPECT_TRUE(folder_.Has("data/a/file"));
}

TEST_F(CacheTest, CountsABlobAndTheFolderThatLinksItOnce) {
  const std::string bytes(100, 'd');
  const std::string blob = Blob(bytes, 4);
  v1::Artifact artifact;
  v1::FileRef& file = *artifact.add_files();
  file.set_path("file");
  file.set_size_bytes(100);
  file.set_sha256(blob);
  ASSERT_OK(store_->PlaceInFolder(artifact, folder_.Path("inputs/a"), ContentStore::Mode::kLink));
  EXPECT_EQ(Trim(100), 0);
  EXPECT_EQ(Trim(50), 100);  // the folder,
  EXPECT_FALSE(folder_.Has("inputs/a"));
  EXPECT_EQ(Trim(50), 100);  // and then what nobody else names
  EXPECT_FALSE(store_->Has(blob));
}

}  // namespace
}  // namespace studio::worker
