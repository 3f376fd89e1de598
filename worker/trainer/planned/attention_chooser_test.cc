#include "worker/trainer/planned/attention_chooser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/env/memory_env.h"
#include "common/status/testing.h"
#include "worker/trainer/planned/attention_testing.h"

namespace studio::planned {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A machine of which each start of a trainer is a chooser, with figures that are made up.
struct AttentionChooserTest : testing::Test {
  MemoryEnv env;
  std::map<AttentionKind, absl::StatusOr<double>> takes = {{AttentionKind::kCudnn, 1432.1},
                                                           {AttentionKind::kFlash, 1812.5}};
  std::vector<AttentionKind> measured;
  std::vector<std::string> lines;

  AttentionChooser Start(const std::string& folder = "/cache/kernels") {
    return {AttentionTable(env, folder), [this](const std::string& line) { lines.push_back(line); }};
  }
  AttentionKind Choose(AttentionChooser& chooser, const AttentionKey& key = H200Key()) {
    return chooser.Choose(key, [this](AttentionKind kind) {
      measured.push_back(kind);
      return takes.at(kind);
    });
  }
  std::string OnlyFile() {
    const auto names = *env.ListFolder("/cache/kernels");
    EXPECT_EQ(names.size(), 1);
    return absl::StrCat("/cache/kernels/", names.at(0));
  }
};

TEST_F(AttentionChooserTest, MeasuresEachCandidateAndTakesTheFastest) {
  AttentionChooser chooser = Start();
  EXPECT_EQ(Choose(chooser), AttentionKind::kCudnn);
  EXPECT_THAT(measured, ElementsAre(AttentionKind::kCudnn, AttentionKind::kFlash));

  takes = {{AttentionKind::kCudnn, 30.5}, {AttentionKind::kFlash, 12.25}};
  AttentionKey small = H200Key();
  small.tokens = small.longest = 512;
  EXPECT_EQ(Choose(chooser, small), AttentionKind::kFlash);
}

TEST_F(AttentionChooserTest, SaysOnceWhatWasChosenAndByWhichFigures) {
  AttentionChooser chooser = Start();
  Choose(chooser);
  Choose(chooser);
  EXPECT_THAT(lines, ElementsAre("attention of 16384 tokens in sequences of 2048, 32 heads (8 of keys) of 64, "
                                 "BFloat16: cudnn; forward and backward cudnn 1432.1 us, flash 1812.5 us"));
}

TEST_F(AttentionChooserTest, AKnownShapeIsNotMeasuredAgain) {
  AttentionChooser first = Start();
  Choose(first);
  Choose(first);
  EXPECT_EQ(measured.size(), 2);
  // The next run's figures would say something else.
  takes[AttentionKind::kFlash] = 1.0;
  lines.clear();
  AttentionChooser second = Start();
  EXPECT_EQ(Choose(second), AttentionKind::kCudnn);
  EXPECT_EQ(measured.size(), 2);
  EXPECT_THAT(lines, ElementsAre(AllOf(HasSubstr("cudnn 1432.1 us"), HasSubstr("(measured earlier)"))));
}

TEST_F(AttentionChooserTest, AnotherDeviceLibraryOrShapeIsMeasuredForItself) {
  AttentionChooser chooser = Start();
  Choose(chooser);
  AttentionKey other = H200Key();
  other.device = "NVIDIA A100";
  Choose(chooser, other);
  other = H200Key();
  other.libtorch = "2.12.0";
  Choose(chooser, other);
  other = H200Key();
  other.longest = 1024;
  Choose(chooser, other);
  EXPECT_EQ(measured.size(), 8);
}

TEST_F(AttentionChooserTest, OneCandidateIsNeitherMeasuredNorKept) {
  AttentionChooser chooser = Start();
  AttentionKey packed = H200Key();
  packed.one_length = false;
  EXPECT_EQ(Choose(chooser, packed), AttentionKind::kFlash);
  AttentionKey wide = H200Key();
  wide.head_dim = 256;
  EXPECT_EQ(Choose(chooser, wide), AttentionKind::kFlash);
  EXPECT_THAT(measured, IsEmpty());
  EXPECT_THAT(lines, IsEmpty());
  EXPECT_FALSE(env.Exists("/cache/kernels"));
}

TEST_F(AttentionChooserTest, ADamagedFileIsMeasuredAgainAndMended) {
  AttentionChooser first = Start();
  Choose(first);
  const std::string path = OnlyFile(), whole = *env.ReadFile(path);
  for (const std::string& damaged :
       {std::string(), whole.substr(0, 100), std::string("{}"), std::string("\0\xff", 2)}) {
    ASSERT_OK(env.WriteFile(path, damaged));
    measured.clear();
    lines.clear();
    AttentionChooser next = Start();
    EXPECT_EQ(Choose(next), AttentionKind::kCudnn);
    EXPECT_EQ(measured.size(), 2);
    EXPECT_THAT(lines, ElementsAre(AllOf(HasSubstr("measured again"), HasSubstr(path)), HasSubstr("flash 1812.5 us")));
    EXPECT_EQ(*env.ReadFile(path), whole);
  }
}

TEST_F(AttentionChooserTest, ADiskThatCannotBeWrittenCostsAMeasurementARun) {
  env.FailAfter(0, absl::PermissionDeniedError("creating /cache: read-only"));
  for (int run = 0; run < 2; ++run) {
    measured.clear();
    lines.clear();
    AttentionChooser chooser = Start();
    EXPECT_EQ(Choose(chooser), AttentionKind::kCudnn);
    EXPECT_EQ(Choose(chooser), AttentionKind::kCudnn);
    EXPECT_EQ(measured.size(), 2);
    EXPECT_THAT(lines, ElementsAre(HasSubstr("flash 1812.5 us"), AllOf(HasSubstr("not kept"), HasSubstr("read-only"))));
  }
}

TEST_F(AttentionChooserTest, WithoutAFolderMeasuresInEachRunAndSaysNothingOfIt) {
  for (int run = 0; run < 2; ++run) {
    measured.clear();
    AttentionChooser chooser = Start("");
    EXPECT_EQ(Choose(chooser), AttentionKind::kCudnn);
    EXPECT_EQ(measured.size(), 2);
  }
  EXPECT_THAT(lines, Each(HasSubstr("attention of")));
}

TEST_F(AttentionChooserTest, WhatCannotBeMeasuredIsLeftOutByThisRunAlone) {
  takes.at(AttentionKind::kCudnn) = absl::InternalError("no plan for this shape");
  AttentionChooser first = Start();
  EXPECT_EQ(Choose(first), AttentionKind::kFlash);
  EXPECT_EQ(Choose(first), AttentionKind::kFlash);
  EXPECT_EQ(measured.size(), 2) << "once a run";
  EXPECT_THAT(lines, ElementsAre(AllOf(HasSubstr("cudnn could not be measured"), HasSubstr("no plan")),
                                 AllOf(HasSubstr(": flash;"), Not(HasSubstr("cudnn")))));
  takes.at(AttentionKind::kCudnn) = 1432.1;
  AttentionChooser second = Start();
  EXPECT_EQ(Choose(second), AttentionKind::kCudnn);
}

TEST_F(AttentionChooserTest, WhereNothingCanBeMeasuredTheFirstCandidateIsTaken) {
  for (auto& [kind, result] : takes) result = absl::ResourceExhaustedError("out of memory");
  AttentionChooser chooser = Start();
  EXPECT_EQ(Choose(chooser), AttentionKind::kCudnn);
  EXPECT_EQ(Choose(chooser), AttentionKind::kCudnn);
  EXPECT_EQ(measured.size(), 2);
  EXPECT_EQ(lines.size(), 2);
  EXPECT_FALSE(env.Exists("/cache/kernels"));
}

TEST_F(AttentionChooserTest, FiguresOfOtherCandidatesAreMeasuredAgain) {
  AttentionTable table(env, "/cache/kernels");
  ASSERT_OK(table.Store(H200Key(), {{AttentionKind::kFlash, 10.0}}));
  AttentionChooser chooser = Start();
  EXPECT_EQ(Choose(chooser), AttentionKind::kCudnn);
  EXPECT_EQ(measured.size(), 2);
  ASSERT_OK_AND_ASSIGN(const AttentionFigures kept, table.Find(H200Key()));
  EXPECT_EQ(kept.size(), 2);
}

}  // namespace
}  // namespace studio::planned
