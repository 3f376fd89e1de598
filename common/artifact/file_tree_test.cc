#include "common/artifact/file_tree.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "common/artifact/sha256.h"
#include "common/artifact/test_folder.h"
#include "common/status/testing.h"

namespace studio {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::vector<std::string> Paths(const v1::Artifact& artifact) {
  std::vector<std::string> paths;
  for (const v1::FileRef& file : artifact.files()) paths.push_back(file.path());
  return paths;
}

TEST(Sha256, GivesTheStandardsExamples) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 hash;
  hash.Update("a");
  EXPECT_EQ(hash.Hex(), Sha256Hex("a"));
  hash.Update("bc");
  EXPECT_EQ(hash.Hex(), Sha256Hex("abc"));
}

TEST(HashTree, DescribesAFile) {
  const TestFolder folder;
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(folder.Write("rows.jsonl", "abc"), {}));
  EXPECT_TRUE(artifact.single_file());
  ASSERT_EQ(artifact.files_size(), 1);
  EXPECT_EQ(artifact.files(0).path(), "rows.jsonl");
  EXPECT_EQ(artifact.files(0).size_bytes(), 3);
  EXPECT_EQ(artifact.files(0).sha256(), Sha256Hex("abc"));
  EXPECT_OK(VerifyTree(folder.Path(), artifact));
}

TEST(HashTree, DescribesAFolderInOrderWhateverTheDisksOrder) {
  const TestFolder folder;
  folder.Write("m/z", "1");
  folder.Write("m/a/b", "22");
  folder.Write("m/config.json", "333");
  fs::create_directories(folder.Path("m/empty"));
  int64_t hashed = 0;
  TreeOptions options;
  options.progress = [&](int64_t bytes) { hashed = bytes; };
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(folder.Path("m"), options));
  EXPECT_THAT(Paths(artifact), ElementsAre("a/b", "config.json", "z"));
  EXPECT_FALSE(artifact.single_file());
  EXPECT_EQ(hashed, 6);
  EXPECT_EQ(ArtifactBytes(artifact), 6);
}

TEST(HashTree, TakesOnlyWhatIsAskedFor) {
  const TestFolder folder;
  folder.Write("m/config.json", "{}");
  folder.Write("m/pytorch_model.bin", "big");
  TreeOptions options;
  options.include = [](const std::string& path) { return path == "config.json"; };
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(folder.Path("m"), options));
  EXPECT_THAT(Paths(artifact), ElementsAre("config.json"));
  options.include = [](const std::string&) { return false; };
  EXPECT_THAT(HashTree(folder.Path("m"), options), StatusIs(kInvalid, HasSubstr("has no files that count")));
}

TEST(HashTree, FollowsLinksWithinTheFolderOnly) {
  const TestFolder folder;
  folder.Write("secret", "x");
  folder.Write("m/a", "1");
  fs::create_symlink("a", folder.Path("m/b"));
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(folder.Path("m"), {}));
  EXPECT_THAT(Paths(artifact), ElementsAre("a", "b"));
  fs::create_symlink("../secret", folder.Path("m/c"));
  EXPECT_THAT(HashTree(folder.Path("m"), {}), StatusIs(kInvalid, HasSubstr("m/c: is a link out of the folder")));
  TreeOptions options;
  options.link_root = folder.Path();
  EXPECT_OK(HashTree(folder.Path("m"), options));
}

TEST(HashTree, RefusesCirclesDeadLinksAndPipes) {
  const TestFolder folder;
  folder.Write("m/a/f", "1");
  fs::create_directory_symlink("..", folder.Path("m/a/up"));
  EXPECT_THAT(HashTree(folder.Path("m"), {}), StatusIs(kInvalid, HasSubstr("a link in a circle?")));
  fs::remove(folder.Path("m/a/up"));
  fs::create_symlink("nowhere", folder.Path("m/dead"));
  EXPECT_THAT(HashTree(folder.Path("m"), {}), StatusIs(kInvalid, HasSubstr("is a link to nowhere")));
  fs::remove(folder.Path("m/dead"));
  ASSERT_EQ(mkfifo(folder.Path("m/pipe").c_str(), 0600), 0);
  EXPECT_THAT(HashTree(folder.Path("m"), {}), StatusIs(kInvalid, HasSubstr("m/pipe: is neither a file nor a folder")));
  EXPECT_THAT(HashTree(folder.Path("m/pipe"), {}), StatusIs(kInvalid, HasSubstr("is not a regular file")));
}

TEST(HashTree, NamesWhatIsMissing) {
  const TestFolder folder;
  EXPECT_THAT(HashTree(folder.Path("gone"), {}), StatusIs(absl::StatusCode::kNotFound, HasSubstr("gone")));
}

TEST(HashTree, RefusesNamesThatOthersMightMisread) {
  const TestFolder folder;
  folder.Write("m/a\nb", "1");
  EXPECT_THAT(HashTree(folder.Path("m"), {}), StatusIs(kInvalid, HasSubstr("control character")));
}

TEST(VerifyTree, NamesTheFileThatChanged) {
  const TestFolder folder;
  folder.Write("m/a", "1");
  folder.Write("m/b", "2");
  ASSERT_OK_AND_ASSIGN(const v1::Artifact artifact, HashTree(folder.Path("m"), {}));
  folder.Write("m/b", "3");
  EXPECT_THAT(VerifyTree(folder.Path("m"), artifact), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("m/b: has 1 ")));
}

TEST(ArtifactDigest, IsOfTheContents) {
  const TestFolder folder;
  folder.Write("one/a", "1");
  folder.Write("two/a", "1");
  folder.Write("three/b", "1");
  const std::string one = ArtifactDigest(*HashTree(folder.Path("one"), {}));
  EXPECT_EQ(one, ArtifactDigest(*HashTree(folder.Path("two"), {})));
  EXPECT_NE(one, ArtifactDigest(*HashTree(folder.Path("three"), {})));
}

TEST(CheckArtifact, RefusesWhatANetworkMightSend) {
  const auto check = [](const std::vector<std::string>& paths, const std::string& sha256, int64_t size) {
    v1::Artifact artifact;
    for (const std::string& path : paths) {
      v1::FileRef& file = *artifact.add_files();
      file.set_path(path);
      file.set_sha256(sha256);
      file.set_size_bytes(size);
    }
    return CheckArtifact(artifact);
  };
  const std::string good = Sha256Hex("");
  EXPECT_OK(check({"a", "b/c", "b/d"}, good, 0));
  EXPECT_THAT(check({"../a"}, good, 0), StatusIs(kInvalid, HasSubstr("'..'")));
  EXPECT_THAT(check({"a"}, "E3B0", 0), StatusIs(kInvalid, HasSubstr("not a SHA-256")));
  EXPECT_THAT(check({"a"}, good, -1), StatusIs(kInvalid, HasSubstr("negative")));
  EXPECT_THAT(check({"a", "a"}, good, 0), StatusIs(kInvalid, HasSubstr("twice")));
  EXPECT_THAT(check({"a/b", "a"}, good, 0), StatusIs(kInvalid, HasSubstr("a file and a folder at once")));
}

}  // namespace
}  // namespace studio
