#include "common/artifact/uri.h"

#include <filesystem>
#include <string>

#include "common/artifact/test_folder.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(ParseUri, KnowsEachKind) {
  EXPECT_EQ(ParseUri("rows.jsonl")->path, "rows.jsonl");
  EXPECT_EQ(ParseUri("odd:name.csv")->kind, Uri::Kind::kPath);
  EXPECT_EQ(ParseUri("file:/shared/m")->path, "/shared/m");
  EXPECT_EQ(ParseUri("file:///shared/m")->path, "/shared/m");
  EXPECT_EQ(ParseUri("hf://org/name")->revision, "main");
  EXPECT_EQ(ParseUri("hf://org/name@v1")->path, "org/name");
  EXPECT_EQ(ParseUri("hf://org/name@v1")->revision, "v1");
  EXPECT_EQ(ParseUri("job:j3")->path, "result");
  EXPECT_EQ(ParseUri("job:j12/result/sub")->job_id, "j12");
  EXPECT_EQ(ParseUri("job:j12/result/sub")->path, "result/sub");
  EXPECT_EQ(ParseUri("studio:")->kind, Uri::Kind::kStudio);
}

TEST(ParseUri, RefusesWhatItCannotMean) {
  EXPECT_THAT(ParseUri(""), StatusIs(kInvalid, HasSubstr("is empty")));
  EXPECT_THAT(ParseUri("s3://bucket/x"), StatusIs(kInvalid, HasSubstr("scheme 's3' is not known")));
  EXPECT_THAT(ParseUri("file:rows"), StatusIs(kInvalid, HasSubstr("'file:rows': a file: URI has an absolute path")));
  EXPECT_THAT(ParseUri("file://host/x"), StatusIs(kInvalid, HasSubstr("no host")));
  EXPECT_THAT(ParseUri("hf://../x"), StatusIs(kInvalid, HasSubstr("expected hf://")));
  EXPECT_THAT(ParseUri("job:last"), StatusIs(kInvalid, HasSubstr("a job's id")));
  EXPECT_THAT(ParseUri("job:j3/../x"), StatusIs(kInvalid, HasSubstr("job:j3/result")));
}

TEST(CheckRelativePath, LetsNothingOut) {
  EXPECT_OK(CheckRelativePath("a/b.c/..d"));
  EXPECT_OK(CheckRelativePath("ä b"));
  for (const char* bad : {"", "/a", "a//b", "a/", "./a", "a/..", "..", "a\\b", "a\nb", "\xff"}) {
    EXPECT_THAT(CheckRelativePath(bad), StatusIs(kInvalid, HasSubstr("path "))) << bad;
  }
  EXPECT_THAT(CheckRelativePath(std::string(256, 'x')), StatusIs(kInvalid, HasSubstr("255")));
}

TEST(ResolveUnderRoots, FollowsLinksBeforeItDecides) {
  const TestFolder folder;
  folder.Write("shared/model/config.json", "{}");
  folder.Write("shared-other/secret", "x");
  std::filesystem::create_symlink(folder.Path("shared-other"), folder.Path("shared/out"));
  std::filesystem::create_symlink(folder.Path("shared"), folder.Path("alias"));
  const std::vector<std::string> roots = {folder.Path("alias")};
  ASSERT_OK_AND_ASSIGN(const std::string found, ResolveUnderRoots(folder.Path("shared/model"), roots, "field"));
  EXPECT_EQ(found, std::filesystem::canonical(folder.Path("shared/model")).string());
  EXPECT_OK(ResolveUnderRoots(folder.Path("alias/model"), roots, "field"));
  for (const char* outside : {"shared/out/secret", "shared-other/secret", "shared/../shared-other/secret",
                              "shared-other/not_there", "alias/../gone"}) {
    EXPECT_THAT(ResolveUnderRoots(folder.Path(outside), roots, "architecture.llm_backbone"),
                StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("architecture.llm_backbone: ")))
        << outside;
  }
  EXPECT_THAT(ResolveUnderRoots(folder.Path("alias/gone"), roots, "field"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("alias/gone")));
  EXPECT_THAT(ResolveUnderRoots("/etc/passwd", {}, "field"),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("--shared-root")));
}

}  // namespace
}  // namespace studio
