#include "worker/trainer/data_feed/batch_builder.h"

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/status/testing.h"
#include "worker/data/token_shard_writer.h"
#include "worker/trainer/data_feed/batch_dump.h"

namespace studio {
namespace {

using testing::ElementsAre;

std::vector<int64_t> Numbers(const at::Tensor& tensor) {
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

// Two shards: row 0 holds two examples, row 1 one, row 2 one.
std::vector<TokenShard> Shards() {
  const std::string folder = testing::TempDir();
  TokenShardWriter first(folder + "/first.tok", 8, 100);
  first.BeginRow();
  first.AddExample(std::vector<uint32_t>{5, 6, 7, 8}, std::vector<uint8_t>{0, 0, 1, 1});
  first.AddExample(std::vector<uint32_t>{9, 2, 3}, std::vector<uint8_t>{0, 1, 0});
  first.BeginRow();
  first.AddExample(std::vector<uint32_t>{11, 12}, std::vector<uint8_t>{0, 1});
  EXPECT_OK(first.Finish());
  TokenShardWriter second(folder + "/second.tok", 8, 100);
  second.BeginRow();
  second.AddExample(std::vector<uint32_t>{21, 22, 23}, std::vector<uint8_t>{0, 0, 1});
  EXPECT_OK(second.Finish());
  std::vector<TokenShard> shards;
  for (const char* name : {"/first.tok", "/second.tok"}) {
    absl::StatusOr<TokenShard> shard = TokenShard::Open(folder + name);
    EXPECT_OK(shard);
    shards.push_back(*std::move(shard));
  }
  return shards;
}

TEST(BatchBuilder, LaysRowsOfSeveralShardsInOneLine) {
  const RowStore rows(Shards());
  const std::vector<uint32_t> chosen = {2, 0};
  const Batch batch = BuildBatch(rows, {/*first=*/4, chosen}, /*step=*/3, at::kCPU);
  EXPECT_THAT(Numbers(batch.tokens), ElementsAre(21, 22, 23, 5, 6, 7, 8, 9, 2, 3));
  EXPECT_THAT(Numbers(batch.positions), ElementsAre(0, 1, 2, 0, 1, 2, 3, 0, 1, 2));
  EXPECT_THAT(Numbers(batch.labels), ElementsAre(-100, 23, -100, -100, 7, 8, -100, 2, -100, -100));
  EXPECT_THAT(Numbers(batch.labelled_rows), ElementsAre(1, 4, 5, 7));
  EXPECT_THAT(batch.cu_seqlens, ElementsAre(0, 3, 7, 10));
  EXPECT_EQ(batch.step, 3);
  EXPECT_EQ(Numbers(batch.mask_ids)[0], int64_t{4} << 32);
  EXPECT_EQ(Numbers(batch.mask_ids)[9], (int64_t{5} << 32) | 6);
}

TEST(RowStore, CountsTokensAcrossShards) {
  const RowStore rows(Shards());
  EXPECT_EQ(rows.size(), 3);
  const std::vector<uint32_t> all = {0, 1, 2};
  EXPECT_EQ(rows.Tokens(all), 12);
  EXPECT_EQ(rows.MostTokens(1), 7);
  EXPECT_EQ(rows.MostTokens(2), 10);
  EXPECT_EQ(rows.MostTokens(9), 12);
  EXPECT_EQ(rows.ValidTokens(all), 5);
}

TEST(RowStore, RefusesTokensThatTheModelDoesNotHave) {
  const RowStore rows(Shards());  // the largest is 23, the tokenizer's vocabulary 100
  EXPECT_OK(rows.CheckVocabulary(100));
  EXPECT_OK(rows.CheckVocabulary(24));
  EXPECT_THAT(rows.CheckVocabulary(23), StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("token 23")));
}

TEST(BatchDump, WritesALineForEachStep) {
  const RowStore rows(Shards());
  const std::vector<uint32_t> chosen = {1};
  const std::string path = testing::TempDir() + "/batches.json";
  ASSERT_OK_AND_ASSIGN(BatchDump dump, BatchDump::Create(path));
  dump.Add(7, 0.5, {BuildBatch(rows, {0, chosen}, 7, at::kCPU)});
  const auto line = nlohmann::json::parse(std::ifstream(path));
  EXPECT_EQ(line["step"], 7);
  EXPECT_EQ(line["micro_batches"][0]["labels"], (std::vector<int>{12, -100}));
  EXPECT_THAT(BatchDump::Create("/nowhere/x"),
              StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("/nowhere/x")));
}

}  // namespace
}  // namespace studio
