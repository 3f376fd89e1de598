#include "worker/data/prepare.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/job/job_rules.h"
#include "common/status/testing.h"
#include "worker/data/file_io.h"
#include "worker/data/json_file.h"
#include "worker/data/testing_model.h"

namespace studio {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class PrepareTest : public ::testing::Test {
 protected:
  PrepareTest() {
    job_.set_name("test");
    job_.mutable_architecture()->set_llm_backbone(WriteTestingModel(dir_ + "/model"));
    job_ = WithDefaults(job_);
    UseRows(Rows(40));
  }

  static std::string Rows(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      text += Dump({{"instruction", "Q" + std::to_string(i)}, {"output", std::string(1 + i % 9, 'a')}}) + "\n";
    }
    return text;
  }
  void UseRows(const std::string& text, const std::string& name = "train.jsonl") {
    ASSERT_OK(dataprep::WriteFile(dir_ + "/" + name, text));
    job_.mutable_dataset()->set_train_dataframe(dir_ + "/" + name);
  }
  absl::StatusOr<PreparedData> Run() { return Prepare(job_, dir_ + "/data"); }

  // All examples of the shards as text, sorted.
  std::vector<std::string> Examples(const std::vector<TokenShard>& shards) {
    std::vector<std::string> texts;
    for (const TokenShard& shard : shards) {
      for (int64_t r = 0; r < shard.rows(); ++r) {
        const TokenRow row = shard.row(r);
        for (size_t e = 0; e < row.starts.size(); ++e) {
          const size_t end = e + 1 < row.starts.size() ? row.starts[e + 1] : row.tokens.size();
          std::string text;
          for (size_t i = row.starts[e]; i < end; ++i) {
            text += row.tokens[i] < 256 ? std::string(1, static_cast<char>(row.tokens[i])) : "|";
          }
          texts.push_back(text);
        }
      }
    }
    std::sort(texts.begin(), texts.end());
    return texts;
  }
  static std::string Bytes(const PreparedData& data) {
    std::string all;
    for (const char* name : {"train-00000.tok", "validation-00000.tok", "report.pb.txt", "prompts.json"}) {
      all += *dataprep::ReadFile(data.folder + "/" + name, 1 << 20);
    }
    return all;
  }
  // Names in the data folder, without those of `data`.
  std::vector<std::string> Leftovers(const PreparedData& data) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_ + "/data")) {
      const std::string name = entry.path().filename();
      if (name != data.key && name != data.key + ".lock") names.push_back(name);
    }
    return names;
  }

  const std::string dir_ = NewFolder("run");
  v1::Job job_;
};

TEST_F(PrepareTest, MakesPackedShardsOfTheRows) {
  ASSERT_OK_AND_ASSIGN(PreparedData data, Run());
  EXPECT_FALSE(data.reused);
  EXPECT_EQ(data.report.rows(), 40);
  EXPECT_EQ(data.report.train_examples(), 38);
  EXPECT_EQ(data.report.validation_examples(), 2);
  EXPECT_EQ(data.report.max_length(), 512) << "the model's context, which is below 2,048";
  EXPECT_EQ(data.report.train_rows(), data.train[0].rows());
  EXPECT_LT(data.report.train_rows(), 5) << "38 examples of about 30 tokens share rows of 512";
  EXPECT_EQ(data.report.tokens(), data.train[0].tokens() + data.validation[0].tokens());
  EXPECT_EQ(data.report.valid_tokens(), data.train[0].valid_tokens() + data.validation[0].valid_tokens());
  EXPECT_TRUE(data.report.dropped().empty());

  std::vector<std::string> examples = Examples(data.train), held_out = Examples(data.validation);
  EXPECT_EQ(held_out.size(), 2);
  examples.insert(examples.end(), held_out.begin(), held_out.end());
  std::sort(examples.begin(), examples.end());
  std::vector<std::string> expected;
  for (int i = 0; i < 40; ++i) {
    expected.push_back("|user\nQ" + std::to_string(i) + "|\n|assistant\n" + std::string(1 + i % 9, 'a') + "|\n");
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(examples, expected);
}

TEST_F(PrepareTest, FindsWhatIsThere) {
  ASSERT_OK_AND_ASSIGN(PreparedData first, Run());
  job_.mutable_training()->set_learning_rate(0.5);
  job_.mutable_environment()->set_number_of_workers(3);
  ASSERT_OK_AND_ASSIGN(PreparedData second, Run());
  EXPECT_TRUE(second.reused);
  EXPECT_EQ(first.key, second.key);
  EXPECT_EQ(first.report.DebugString(), second.report.DebugString());
  EXPECT_THAT(Leftovers(second), IsEmpty());
}

TEST_F(PrepareTest, NamesTheFolderByAllThatMatters) {
  const v1::Job job = job_;
  std::set<std::string> keys;
  const auto add = [&] {
    auto data = Run();
    EXPECT_OK(data);
    EXPECT_TRUE(data.ok() && keys.insert(data->key).second) << job_.ShortDebugString();
    job_ = job;
  };
  add();
  job_.mutable_environment()->set_seed(2), add();
  job_.mutable_dataset()->set_validation_size(0.25), add();
  job_.mutable_dataset()->set_data_sample(0.5), add();
  job_.mutable_dataset()->set_packing(false), add();
  job_.mutable_dataset()->set_mask_prompt_labels(false), add();
  job_.mutable_dataset()->set_only_last_answer(true), add();
  job_.mutable_dataset()->set_chat_template("{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}"), add();
  job_.mutable_tokenizer()->set_max_length(100), add();
  UseRows(Rows(41)), add();
}

TEST_F(PrepareTest, GivesTheSameBytesOnAnyNumberOfThreads) {
  UseRows(Rows(3000));
  job_.mutable_environment()->set_number_of_workers(1);
  ASSERT_OK_AND_ASSIGN(PreparedData one, Run());
  const std::string bytes = Bytes(one);
  fs::remove_all(dir_ + "/data");
  job_.mutable_environment()->set_number_of_workers(7);
  ASSERT_OK_AND_ASSIGN(PreparedData seven, Run());
  EXPECT_EQ(bytes, Bytes(seven));
}

TEST_F(PrepareTest, ReadsTheSameRowsFromEveryFormat) {
  UseRows("{\"instruction\":\"a\",\"output\":\"b, \\\"c\\\"\\nd\"}\n{\"instruction\":\"e\",\"output\":\"f\"}\n");
  ASSERT_OK_AND_ASSIGN(PreparedData jsonl, Run());
  UseRows("[{\"instruction\":\"a\",\"output\":\"b, \\\"c\\\"\\nd\"},{\"instruction\":\"e\",\"output\":\"f\"}]",
          "train.json");
  ASSERT_OK_AND_ASSIGN(PreparedData json, Run());
  UseRows("instruction,output\r\na,\"b, \"\"c\"\"\nd\"\r\ne,f\r\n", "train.csv");
  ASSERT_OK_AND_ASSIGN(PreparedData csv, Run());
  EXPECT_EQ(Examples(json.train), Examples(jsonl.train));
  EXPECT_EQ(Examples(csv.train), Examples(jsonl.train));
  EXPECT_EQ(Examples(csv.validation), Examples(jsonl.validation));
}

TEST_F(PrepareTest, PutsOneExampleInARowWithoutPacking) {
  job_.mutable_dataset()->set_packing(false);
  ASSERT_OK_AND_ASSIGN(PreparedData data, Run());
  EXPECT_EQ(data.report.train_rows(), 38);
  for (int64_t i = 0; i < 38; ++i) EXPECT_THAT(data.train[0].row(i).starts, ElementsAre(0));
}

TEST_F(PrepareTest, HoldsOutTheRowsOfTheValidationFile) {
  ASSERT_OK(dataprep::WriteFile(dir_ + "/held.csv", "instruction,output\nq,held\nr,\n"));
  job_.mutable_dataset()->set_validation_strategy(v1::Dataset::CUSTOM);
  EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr("set dataset.validation_dataframe")));
  job_.mutable_dataset()->set_validation_dataframe(dir_ + "/held.csv");
  ASSERT_OK_AND_ASSIGN(PreparedData data, Run());
  EXPECT_EQ(data.report.train_examples(), 40);
  EXPECT_THAT(Examples(data.validation), ElementsAre("|user\nq|\n|assistant\nheld|\n"));
  EXPECT_EQ(data.report.rows(), 42);
  EXPECT_EQ(data.report.dropped().at("no answer"), 1);
}

TEST_F(PrepareTest, HoldsOutNothingWhereAskedTo) {
  job_.mutable_dataset()->set_validation_size(0);
  ASSERT_OK_AND_ASSIGN(PreparedData data, Run());
  EXPECT_THAT(data.validation, IsEmpty());
  EXPECT_THAT(data.sample_prompts, IsEmpty());
}

TEST_F(PrepareTest, CountsWhatItDropsAndCuts) {
  UseRows(Rows(10) + "{\"instruction\":\"none\"}\n" +
          Dump({{"instruction", std::string(600, 'q')}, {"output", "lost"}}) + "\n" +
          Dump({{"instruction", "cut"}, {"output", std::string(600, 'a')}}) + "\n");
  job_.mutable_dataset()->set_validation_size(0);
  ASSERT_OK_AND_ASSIGN(PreparedData data, Run());
  EXPECT_EQ(data.report.rows(), 13);
  EXPECT_EQ(data.report.train_examples(), 11);
  EXPECT_EQ(data.report.truncated(), 1);
  EXPECT_EQ(data.report.dropped().at("no answer"), 1);
  EXPECT_EQ(data.report.dropped().at("no label left after truncation"), 1);
}

TEST_F(PrepareTest, GivesThePromptToSampleFrom) {
  ASSERT_OK_AND_ASSIGN(PreparedData data, Run());
  ASSERT_EQ(data.sample_prompts.size(), 1);
  const SamplePrompt& sample = data.sample_prompts[0];
  const std::string text = "|user\n" + sample.prompt + "|\n|assistant\n" + sample.reference + "|\n";
  const std::vector<std::string> held_out = Examples(data.validation);
  EXPECT_NE(std::find(held_out.begin(), held_out.end(), text), held_out.end()) << text;
  EXPECT_EQ(sample.tokens.front(), kImStart);
  EXPECT_EQ(sample.tokens.back(), static_cast<uint32_t>('\n'));
  EXPECT_THAT(data.stop_tokens, ElementsAre(kImEnd));

  job_.mutable_prediction()->add_sample_prompts("mine");
  ASSERT_OK_AND_ASSIGN(PreparedData own, Run());
  EXPECT_TRUE(own.reused);
  ASSERT_EQ(own.sample_prompts.size(), 1);
  EXPECT_EQ(own.sample_prompts[0].prompt, "mine");
  EXPECT_EQ(own.sample_prompts[0].reference, "");
}

TEST_F(PrepareTest, ResolvesMaxLength) {
  job_.mutable_tokenizer()->set_max_length(513);
  EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr("tokenizer.max_length is 513, but the model's context is 512")));
  job_.mutable_tokenizer()->set_max_length(64);
  ASSERT_OK_AND_ASSIGN(PreparedData data, Run());
  EXPECT_EQ(data.train[0].max_length(), 64);
  WriteTestingModel(dir_ + "/model", {.context = 8192});
  job_.mutable_tokenizer()->set_max_length(0);
  ASSERT_OK_AND_ASSIGN(PreparedData wide, Run());
  EXPECT_EQ(wide.report.max_length(), 2048);
}

TEST_F(PrepareTest, RefusesBadInput) {
  const struct {
    const char* name;
    std::string rows;
    const char* message;
  } cases[] = {
      {"empty.jsonl", "", "empty.jsonl: empty"},
      {"empty.csv", "instruction,output\n", "empty.csv: empty"},
      {"empty.json", "[]", "empty.json: empty"},
      {"no_answer.jsonl", "{\"instruction\":\"a\",\"output\":\"\"}\n", "no row with an answer"},
      {"columns.csv", "question,answer\na,b\n", "no row has a column \"output\""},
      {"latin1.csv", "instruction,output\na,caf\xE9\n", "latin1.csv:2: not UTF-8: byte 0xE9 at offset 24"},
      {"broken.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n{\n", "broken.jsonl:2: not JSON"},
      {"data.txt", "x", ".jsonl, .json and .csv"},
  };
  for (const auto& test : cases) {
    UseRows(test.rows, test.name);
    EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr(test.message))) << test.name;
  }
  job_.mutable_dataset()->set_train_dataframe(dir_ + "/absent.csv");
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent.csv")));
}

TEST_F(PrepareTest, RefusesABadModelFolder) {
  const std::string model = job_.architecture().llm_backbone();
  ASSERT_OK(dataprep::WriteFile(model + "/tokenizer.json", "not JSON"));
  EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr("tokenizer.json: not a tokenizer file")));
  ASSERT_OK(dataprep::WriteFile(model + "/config.json", "{\"max_position_embeddings\": -1}"));
  EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr("config.json: max_position_embeddings is -1")));
  ASSERT_OK(dataprep::WriteFile(model + "/config.json", "{"));
  EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr("config.json: not JSON")));
  fs::remove(model + "/config.json");
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("config.json")));
  WriteTestingModel(model, {.vocab_size = 257});
  EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr("train.jsonl:1: the tokenizer gives token 257")));
}

TEST_F(PrepareTest, SaysWhyNothingIsLeft) {
  job_.mutable_dataset()->set_chat_template("{{ raise_exception('no such roles') }}");
  EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr("no such roles")));
  job_.mutable_dataset()->set_chat_template("{% if %}");
  EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr("not valid Jinja")));
  job_.mutable_dataset()->clear_chat_template();
  job_.mutable_tokenizer()->set_max_length(5);
  EXPECT_THAT(Run(), StatusIs(kInvalid, HasSubstr("no training example is left of 40 rows at max_length 5")));
  // Nothing half made stays behind to be found.
  for (const auto& entry : fs::directory_iterator(dir_ + "/data")) {
    EXPECT_FALSE(fs::exists(entry.path() / "DONE")) << entry.path();
  }
}

TEST_F(PrepareTest, TellsOfTheTemplatesQuirks) {
  job_.mutable_dataset()->set_chat_template("{% for m in messages %}{{ m.role }}={{ m.content }}{% endfor %}");
  ASSERT_OK_AND_ASSIGN(PreparedData data, Run());
  ASSERT_EQ(data.report.notes_size(), 1);
  EXPECT_THAT(data.report.notes(0), HasSubstr("does not learn to stop (40 rows)"));
}

TEST_F(PrepareTest, MakesDamagedDataAnew) {
  ASSERT_OK_AND_ASSIGN(PreparedData first, Run());
  const std::string bytes = Bytes(first);
  const auto damage = [&](const std::string& name, auto how) {
    how(first.folder + "/" + name);
    auto again = Run();
    ASSERT_OK(again) << name;
    EXPECT_FALSE(again->reused) << name;
    EXPECT_EQ(Bytes(*again), bytes) << name;
    EXPECT_THAT(Leftovers(*again), IsEmpty());
  };
  const auto remove = [](const std::string& path) { fs::remove(path); };
  const auto flip = [](const std::string& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(30);
    file.put('\x55');
  };
  for (const char* name : {"DONE", "train-00000.tok", "validation-00000.tok", "report.pb.txt", "prompts.json"}) {
    damage(name, remove);
    if (std::string(name) != "DONE") damage(name, flip);
  }
}

TEST_F(PrepareTest, RemovesWhatADeadProcessLeft) {
  ASSERT_OK_AND_ASSIGN(PreparedData first, Run());
  fs::remove_all(first.folder);
  ASSERT_OK(MakeFolders(dir_ + "/data/.tmp-" + first.key + "-123"));
  ASSERT_OK_AND_ASSIGN(PreparedData again, Run());
  EXPECT_THAT(Leftovers(again), IsEmpty());
}

TEST_F(PrepareTest, LetsManyProcessesPrepareTheSameAtOnce) {
  UseRows(Rows(2000));
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      const auto data = Run();
      _exit(!data.ok() ? 2 : data->report.train_examples() != 1900 ? 3 : data->reused ? 0 : 1);
    }
    children.push_back(child);
  }
  int made = 0;
  for (pid_t child : children) {
    int status;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_LE(WEXITSTATUS(status), 1);
    made += WEXITSTATUS(status);
  }
  EXPECT_EQ(made, 1) << "one prepared, the others waited and read";
}

TEST_F(PrepareTest, ReportsProgressToTheEnd) {
  std::vector<int64_t> done;
  ASSERT_OK(Prepare(job_, dir_ + "/data", [&](const PrepareProgress& progress) {
    EXPECT_EQ(progress.total_rows, 40);
    done.push_back(progress.prepared_rows);
  }));
  ASSERT_THAT(done, Not(IsEmpty()));
  EXPECT_EQ(done.back(), 40);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
}

}  // namespace
}  // namespace studio
