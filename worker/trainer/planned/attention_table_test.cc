#include "worker/trainer/planned/attention_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/env/memory_env.h"
#include "common/env/posix_env.h"
#include "common/status/testing.h"
#include "worker/trainer/planned/attention_testing.h"

namespace studio::planned {
namespace {

using testing::_;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

const AttentionFigures kFigures = {{AttentionKind::kCudnn, 1432.1}, {AttentionKind::kFlash, 1812.5}};
const AttentionFigures kOthers = {{AttentionKind::kCudnn, 20.25}, {AttentionKind::kFlash, 10.5}};

// Each differs from H200Key() in one field.
std::vector<AttentionKey> Neighbours() {
  std::vector<AttentionKey> keys(10, H200Key());
  keys[0].device = "NVIDIA H100";
  keys[1].compute_capability = "8.0";
  keys[2].libtorch = "2.12.0";
  keys[3].dtype = "Half";
  keys[4].heads = 16;
  keys[5].kv_heads = 4;
  keys[6].head_dim = 128;
  keys[7].longest = 1024;
  keys[8].tokens = 8192;
  keys[9].one_length = false;
  return keys;
}

TEST(AttentionFigures, NamesReadAsTheyAreWritten) {
  for (const AttentionKind kind : {AttentionKind::kCudnn, AttentionKind::kFlash, AttentionKind::kReference}) {
    EXPECT_EQ(AttentionKindOf(NameOf(kind)), kind);
  }
  EXPECT_EQ(AttentionKindOf("eager"), std::nullopt);
}

TEST(AttentionFigures, CudnnTakesRowsOfOneLengthAndHeadsUpTo128) {
  EXPECT_THAT(AttentionCandidates(true, 128), ElementsAre(AttentionKind::kCudnn, AttentionKind::kFlash));
  EXPECT_THAT(AttentionCandidates(true, 136), ElementsAre(AttentionKind::kFlash));
  EXPECT_THAT(AttentionCandidates(false, 64), ElementsAre(AttentionKind::kFlash));
}

TEST(AttentionFigures, TheFastestIsTheLeast) {
  EXPECT_EQ(Fastest(kFigures), AttentionKind::kCudnn);
  EXPECT_EQ(Fastest(kOthers), AttentionKind::kFlash);
  EXPECT_EQ(DescribeFigures(kFigures), "cudnn 1432.1 us, flash 1812.5 us");
}

TEST(AttentionFigures, TextSaysWhatItIs) {
  const std::string text = FiguresText(H200Key(), kFigures);
  for (const char* part : {R"("device": "NVIDIA H200")", R"("longest": 2048)", R"("one_length": true)",
                           R"("fastest": "cudnn")", R"("cudnn": 1432.1)", R"("flash": 1812.5)"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  ASSERT_OK_AND_ASSIGN(const AttentionFigures read, ParseFigures(text, H200Key()));
  EXPECT_EQ(read, kFigures);
}

TEST(AttentionFigures, ADevicesNameNeedNotBeUtf8) {
  AttentionKey key = H200Key();
  key.device = "card \xff\"";
  ASSERT_OK_AND_ASSIGN(const AttentionFigures read, ParseFigures(FiguresText(key, kFigures), key));
  EXPECT_EQ(read, kFigures);
}

TEST(AttentionFigures, TextOfAnotherKeyIsNotTaken) {
  for (const AttentionKey& other : Neighbours()) {
    EXPECT_NE(KeyText(other), KeyText(H200Key()));
    EXPECT_THAT(ParseFigures(FiguresText(other, kFigures), H200Key()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another key")))
        << KeyText(other);
  }
}

TEST(AttentionFigures, TornTextIsNotTaken) {
  const std::string text = FiguresText(H200Key(), kFigures);
  // The last byte is the line's end.
  for (size_t size = 0; size + 1 < text.size(); ++size) {
    EXPECT_THAT(ParseFigures(text.substr(0, size), H200Key()), StatusIs(absl::StatusCode::kDataLoss, _)) << size;
  }
}

TEST(AttentionFigures, TextThatContradictsItselfIsNotTaken) {
  const std::string text = FiguresText(H200Key(), kFigures);
  const struct {
    const char *from, *to, *message;
  } cases[] = {
      {R"("fastest": "cudnn")", R"("fastest": "flash")", "contradicts"},
      {R"("fastest": "cudnn")", R"("fastest": 3)", "contradicts"},
      {"1432.1", "1e999", ""},
      {"1432.1", "-1", "above 0"},
      {"1432.1", "0", "above 0"},
      {"1432.1", "\"1432.1\"", "above 0"},
      {R"("flash": 1812.5)", R"("eager": 1812.5)", "eager"},
      {R"("microseconds": {)", R"("microseconds": {}, "more": {)", "empty"},
      {R"("microseconds": {)", R"("more": {)", "no object"},
      {R"("heads": 32)", R"("heads": "32")", "another key"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(ParseFigures(absl::StrReplaceAll(text, {{c.from, c.to}}), H200Key()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(c.message)))
        << c.to;
  }
}

TEST(AttentionTable, FindsWhatAnotherProcessStored) {
  MemoryEnv env;
  EXPECT_THAT(AttentionTable(env, "/cache/kernels").Find(H200Key()), StatusIs(absl::StatusCode::kNotFound, _));
  ASSERT_OK(AttentionTable(env, "/cache/kernels").Store(H200Key(), kFigures));
  ASSERT_OK_AND_ASSIGN(const AttentionFigures found, AttentionTable(env, "/cache/kernels").Find(H200Key()));
  EXPECT_EQ(found, kFigures);
  for (const AttentionKey& other : Neighbours()) {
    EXPECT_THAT(AttentionTable(env, "/cache/kernels").Find(other), StatusIs(absl::StatusCode::kNotFound, _));
  }
}

TEST(AttentionTable, KeepsOneFileForEachKeyAndNothingElse) {
  MemoryEnv env;
  AttentionTable table(env, "/cache/kernels");
  ASSERT_OK(table.Store(H200Key(), kFigures));
  ASSERT_OK(table.Store(H200Key(), kOthers));
  ASSERT_OK(table.Store(Neighbours()[0], kFigures));
  ASSERT_OK_AND_ASSIGN(const auto names, env.ListFolder("/cache/kernels"));
  ASSERT_THAT(names, SizeIs(2));
  for (const std::string& name : names) EXPECT_TRUE(absl::EndsWith(name, ".attention.json")) << name;
  ASSERT_OK_AND_ASSIGN(const AttentionFigures newest, table.Find(H200Key()));
  EXPECT_EQ(newest, kOthers);
}

TEST(AttentionTable, NamesADamagedFileAndReplacesIt) {
  MemoryEnv env;
  AttentionTable table(env, "/cache/kernels");
  ASSERT_OK(table.Store(H200Key(), kFigures));
  const std::string path = absl::StrCat("/cache/kernels/", env.ListFolder("/cache/kernels")->at(0));
  env.Corrupt(path, 0);
  EXPECT_THAT(table.Find(H200Key()), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path)));
  ASSERT_OK(table.Store(H200Key(), kFigures));
  EXPECT_OK(table.Find(H200Key()));
}

// Before the folder, its file, the name; and behind the name, where the figures are kept already.
TEST(AttentionTable, ADiskThatFailsAnywhereLeavesAWholeFileOrNone) {
  for (int changes = 0; changes < 4; ++changes) {
    MemoryEnv env;
    AttentionTable table(env, "/cache/kernels");
    env.FailAfter(changes, absl::ResourceExhaustedError("disk full"));
    const absl::Status stored = table.Store(H200Key(), kFigures);
    EXPECT_EQ(stored.ok(), changes == 3) << changes;
    const auto found = table.Find(H200Key());
    if (stored.ok()) {
      EXPECT_OK(found);
    } else {
      EXPECT_THAT(found, StatusIs(absl::StatusCode::kNotFound, _)) << changes;
      EXPECT_THAT(stored, StatusIs(absl::StatusCode::kResourceExhausted, _));
    }
  }
}

TEST(AttentionTable, WhatAnotherRankStoredMeanwhileWillDo) {
  MemoryEnv env;
  AttentionTable first(env, "/cache/kernels"), second(env, "/cache/kernels");
  ASSERT_OK(first.Store(H200Key(), kFigures));
  env.FailAfter(0, absl::InternalError("linking: File exists"));
  EXPECT_THAT(second.Store(Neighbours()[0], kOthers), StatusIs(absl::StatusCode::kInternal, _));
  env.StopFailing();
  env.FailAfter(2, absl::InternalError("linking: File exists"));  // behind the folder and its own file
  EXPECT_OK(second.Store(H200Key(), kOthers));
}

TEST(AttentionTable, WithoutAFolderKeepsNothing) {
  MemoryEnv env;
  AttentionTable table(env, "");
  EXPECT_OK(table.Store(H200Key(), kFigures));
  EXPECT_THAT(table.Find(H200Key()), StatusIs(absl::StatusCode::kNotFound, _));
}

TEST(AttentionTable, WorksOnARealDisk) {
  PosixEnv env;
  AttentionTable table(env, testing::TempDir() + "/attention/kernels");
  ASSERT_OK(table.Store(H200Key(), kFigures));
  ASSERT_OK(table.Store(H200Key(), kOthers));
  ASSERT_OK_AND_ASSIGN(const AttentionFigures found, table.Find(H200Key()));
  EXPECT_EQ(found, kOthers);
  EXPECT_THAT(*env.ListFolder(testing::TempDir() + "/attention/kernels"), SizeIs(1));
}

TEST(AttentionTable, RanksThatStoreAtOnceShowWholeFiles) {
  PosixEnv env;
  const std::string folder = testing::TempDir() + "/attention_at_once/kernels";
  std::vector<std::thread> ranks;
  std::atomic<int> damaged = 0;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&env, &folder, &damaged, rank] {
      AttentionTable table(env, folder);
      for (int i = 0; i < 20; ++i) {
        // Texts of different lengths: a mixture of two would show.
        const double figure = rank == 0 ? 1.5 + i : 1234567.890625 + i;
        table.Store(H200Key(), {{AttentionKind::kCudnn, figure}, {AttentionKind::kFlash, figure}}).IgnoreError();
        const auto found = table.Find(H200Key());
        if (!found.ok() && !absl::IsNotFound(found.status())) ++damaged;
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(damaged, 0);
  EXPECT_OK(AttentionTable(env, folder).Find(H200Key()));
}

}  // namespace
}  // namespace studio::planned
