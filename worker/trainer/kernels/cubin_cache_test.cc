#include "worker/trainer/kernels/cubin_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/env/memory_env.h"
#include "common/status/testing.h"

namespace studio::kernels {
namespace {

// Counts what is asked of it.
class CountingCompiler : public Compiler {
 public:
  explicit CountingCompiler(std::string version = "test 1") : version_(std::move(version)) {}
  std::string version() const override { return version_; }
  absl::StatusOr<std::string> Compile(absl::string_view source, const std::string& architecture) const override {
    ++runs;
    if (source == "wrong") return absl::InternalError("does not compile");
    return absl::StrCat("code of ", source, " for ", architecture);
  }
  mutable int runs = 0;

 private:
  const std::string version_;
};

struct CubinCacheTest : testing::Test {
  MemoryEnv env;
  CubinCache cache{env, "/cache/kernels"};
  CountingCompiler compiler;

  std::string OnlyFile() {
    const auto names = *env.ListFolder("/cache/kernels");
    EXPECT_EQ(names.size(), 1);
    return absl::StrCat("/cache/kernels/", names.at(0));
  }
};

TEST_F(CubinCacheTest, CompilesOnce) {
  EXPECT_EQ(*cache.Get(compiler, "text", "sm_90"), "code of text for sm_90");
  EXPECT_EQ(*cache.Get(compiler, "text", "sm_90"), "code of text for sm_90");
  EXPECT_EQ(*CubinCache(env, "/cache/kernels").Get(compiler, "text", "sm_90"), "code of text for sm_90");
  EXPECT_EQ(compiler.runs, 1);
}

TEST_F(CubinCacheTest, TellsTextsArchitecturesAndCompilersApart) {
  const CountingCompiler newer("test 2");
  EXPECT_TRUE(cache.Get(compiler, "text", "sm_90").ok());
  EXPECT_EQ(*cache.Get(compiler, "text", "sm_80"), "code of text for sm_80");
  EXPECT_EQ(*cache.Get(compiler, "other", "sm_90"), "code of other for sm_90");
  EXPECT_TRUE(cache.Get(newer, "text", "sm_90").ok());
  EXPECT_EQ(compiler.runs, 3);
  EXPECT_EQ(newer.runs, 1);
}

TEST_F(CubinCacheTest, CompilesAgainWhatIsDamaged) {
  ASSERT_TRUE(cache.Get(compiler, "text", "sm_90").ok());
  const std::string path = OnlyFile(), whole = *env.ReadFile(path);
  env.Corrupt(path, whole.size() - 3);
  EXPECT_EQ(*cache.Get(compiler, "text", "sm_90"), "code of text for sm_90");
  EXPECT_EQ(compiler.runs, 2);
  EXPECT_EQ(*env.ReadFile(path), whole) << "and mends the file";
  for (const size_t size : {size_t{0}, size_t{10}, size_t{65}, whole.size() - 1}) {
    const int before = compiler.runs;
    ASSERT_TRUE(env.WriteFile(path, whole.substr(0, size)).ok());
    EXPECT_EQ(*cache.Get(compiler, "text", "sm_90"), "code of text for sm_90");
    EXPECT_EQ(compiler.runs, before + 1) << size;
  }
}

TEST_F(CubinCacheTest, WorksWithoutADiskToWriteTo) {
  env.FailAfter(0, absl::ResourceExhaustedError("disk full"));
  EXPECT_EQ(*cache.Get(compiler, "text", "sm_90"), "code of text for sm_90");
  EXPECT_EQ(*CubinCache(env, "").Get(compiler, "text", "sm_90"), "code of text for sm_90");
  EXPECT_EQ(compiler.runs, 2);
}

TEST_F(CubinCacheTest, KeepsNoFailure) {
  EXPECT_EQ(cache.Get(compiler, "wrong", "sm_90").status().code(), absl::StatusCode::kInternal);
  EXPECT_FALSE(env.Exists("/cache/kernels"));
}

}  // namespace
}  // namespace studio::kernels
