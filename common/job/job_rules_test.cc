#include "common/job/job_rules.h"

#include <cmath>
#include <functional>
#include <string>

#include "common/job/job_text.h"
#include "common/job/utf8.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;

v1::Job Minimal() {
  v1::Job job;
  job.set_name("faq");
  job.mutable_dataset()->set_train_dataframe("rows.jsonl");
  job.mutable_architecture()->set_llm_backbone("model");
  return job;
}

TEST(WithDefaults, FillsWhatIsLeftOutAndNothingElse) {
  v1::Job job = Minimal();
  job.mutable_training()->set_lora(false);
  job.mutable_training()->set_gradient_clip(0);
  const v1::Job full = WithDefaults(job);
  EXPECT_EQ(full.training().learning_rate(), 1e-4);
  EXPECT_EQ(full.training().lora_r(), 16);
  EXPECT_FALSE(full.training().lora());
  EXPECT_EQ(full.training().gradient_clip(), 0);
  EXPECT_FALSE(full.training().has_warmup_steps());
  EXPECT_EQ(full.dataset().prompt_column_separator(), "\n\n");
  EXPECT_EQ(full.export_().name(), "");
  EXPECT_TRUE(full.has_retry());
  EXPECT_EQ(full.environment().seed(), 1u);
  EXPECT_EQ(WithDefaults(full).SerializeAsString(), full.SerializeAsString());
}

TEST(Validate, AcceptsTheSmallestJobWithAndWithoutDefaults) {
  EXPECT_OK(Validate(Minimal()));
  EXPECT_OK(Validate(WithDefaults(Minimal())));
}

TEST(Validate, NamesEverythingThatIsMissing) {
  EXPECT_EQ(Validate(v1::Job()).message(),
            "name: is required\n"
            "dataset.train_dataframe: is required: name a file or folder, or its URI\n"
            "architecture.llm_backbone: is required: name a file or folder, or its URI");
}

struct Bad {
  const char* name;
  std::function<void(v1::Job&)> spoil;
  const char* message;
};

class ValidateBad : public testing::TestWithParam<Bad> {};

TEST_P(ValidateBad, IsRefusedWithValueAndRange) {
  v1::Job job = Minimal();
  GetParam().spoil(job);
  EXPECT_THAT(Validate(job), StatusIs(absl::StatusCode::kInvalidArgument, GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, ValidateBad,
    testing::Values(
        Bad{"NegativeRate", [](v1::Job& job) { job.mutable_training()->set_learning_rate(-1); },
            "training.learning_rate: -1 is out of range; accepted: above 0, at most 10"},
        Bad{"ZeroRate", [](v1::Job& job) { job.mutable_training()->set_learning_rate(0); },
            "training.learning_rate: 0 is out of range; accepted: above 0, at most 10"},
        Bad{"NanRate", [](v1::Job& job) { job.mutable_training()->set_learning_rate(NAN); },
            "training.learning_rate: nan is not a finite number; accepted: above 0, at most 10"},
        Bad{"InfiniteSize", [](v1::Job& job) { job.mutable_dataset()->set_validation_size(INFINITY); },
            "dataset.validation_size: inf is not a finite number; accepted: from 0 to 0.9"},
        Bad{"BatchOfNothing", [](v1::Job& job) { job.mutable_training()->set_batch_size(0); },
            "training.batch_size: 0 is out of range; accepted: from 1 to 65536 (rows)"},
        Bad{"NegativeMemory", [](v1::Job& job) { job.mutable_resources()->set_device_memory_bytes(-1); },
            "resources.device_memory_bytes: -1 is out of range; accepted: from 0 (bytes)"},
        Bad{"NameWithASlash", [](v1::Job& job) { job.set_name("a/b"); },
            "name: \"a/b\" may hold only letters, digits, '.', '_' and '-'"},
        Bad{"ResultOutside", [](v1::Job& job) { job.mutable_export_()->set_name(".."); },
            "export.name: \"..\" may not start with '.'"},
        Bad{"LongName", [](v1::Job& job) { job.set_name(std::string(129, 'x')); },
            "name: \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…\" has 129 bytes; accepted: from 1 "
            "to "
            "128"},
        Bad{"NotUtf8", [](v1::Job& job) { job.mutable_dataset()->set_system_column("a\xff"); },
            "dataset.system_column: \"a\\xff\" is not valid UTF-8: save the job as UTF-8"},
        Bad{"NotUtf8InAList", [](v1::Job& job) { job.mutable_prediction()->add_sample_prompts("\xc0\x80"); },
            "prediction.sample_prompts[0]: \"\\xc0\\x80\" is not valid UTF-8: save the job as UTF-8"},
        Bad{"ZeroByte", [](v1::Job& job) { job.mutable_dataset()->set_train_dataframe(std::string("a\0x", 3)); },
            "dataset.train_dataframe: \"a\\x00x\" holds a zero byte"},
        Bad{"UnknownEnum",
            [](v1::Job& job) { job.mutable_training()->set_schedule(static_cast<v1::Training::Schedule>(9)); },
            "training.schedule: 9 is not a known value; accepted: COSINE, LINEAR, CONSTANT"},
        Bad{"CustomWithoutFile",
            [](v1::Job& job) { job.mutable_dataset()->set_validation_strategy(v1::Dataset::CUSTOM); },
            "dataset.validation_dataframe: is required by validation_strategy: CUSTOM"},
        Bad{"FileWithoutCustom", [](v1::Job& job) { job.mutable_dataset()->set_validation_dataframe("v.csv"); },
            "dataset.validation_dataframe: \"v.csv\" would not be used: set validation_strategy: CUSTOM, or leave it "
            "out"},
        Bad{"WarmupPastTheEnd",
            [](v1::Job& job) {
              job.mutable_training()->set_max_steps(10);
              job.mutable_training()->set_warmup_steps(11);
            },
            "training.warmup_steps: 11 is more than max_steps, 10"},
        Bad{"AdapterWithoutLora",
            [](v1::Job& job) {
              job.mutable_training()->set_lora(false);
              job.mutable_export_()->set_format(v1::Export::ADAPTER);
            },
            "export.format: ADAPTER needs training.lora: true; full fine-tuning exports MODEL"},
        Bad{"GlobalBatchTooLarge",
            [](v1::Job& job) {
              job.mutable_training()->set_batch_size(65536);
              job.mutable_training()->set_grad_accumulation(65536);
            },
            "training.batch_size: batch_size 65536 × grad_accumulation 65536 × devices 1 is 4294967296 rows; at most "
            "2147483647"},
        Bad{"LabelWithoutName", [](v1::Job& job) { (*job.mutable_labels())[""] = "x"; },
            "labels: a label's name may not be empty"}),
    [](const auto& info) { return info.param.name; });

TEST(Validate, RefusesWhatNoMachineOfThePlatformCanEverDo) {
  v1::Job job = Minimal();
  job.mutable_training()->set_attention_implementation(v1::Training::FLASH_ATTENTION_2);
  EXPECT_OK(Validate(job));
  job.mutable_resources()->set_backend(v1::CPU);
  EXPECT_THAT(Validate(job),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("training.attention_implementation: FLASH_ATTENTION_2 never works on CPU; use SDPA")));
}

TEST(Validate, TooManyElements) {
  v1::Job job = Minimal();
  for (int i = 0; i < 65; ++i) job.mutable_prediction()->add_sample_prompts("p");
  EXPECT_THAT(FindViolations(job), ElementsAre(Field(&Violation::field, "prediction.sample_prompts")));
}

TEST(Validate, RefusesASettingOfANewerVersion) {
  std::string bytes = Minimal().SerializeAsString();
  v1::Training newer;
  newer.GetReflection()->MutableUnknownFields(&newer)->AddVarint(9999, 1);
  v1::Job wrapper;
  *wrapper.mutable_training() = newer;
  bytes += wrapper.SerializeAsString();
  v1::Job job;
  ASSERT_TRUE(job.ParseFromString(bytes));
  EXPECT_THAT(Validate(job), StatusIs(absl::StatusCode::kInvalidArgument,
                                      HasSubstr("training: has a setting of a newer version (field number 9999)")));
}

TEST(Validate, CollectsAllViolations) {
  ASSERT_OK_AND_ASSIGN(const v1::Job job, ParseJobText("name: 'x' training { batch_size: 0 learning_rate: nan }", "j"));
  EXPECT_THAT(FindViolations(job), ElementsAre(Field(&Violation::field, "dataset.train_dataframe"),
                                               Field(&Violation::field, "architecture.llm_backbone"),
                                               Field(&Violation::field, "training.learning_rate"),
                                               Field(&Violation::field, "training.batch_size")));
}

TEST(NamedFiles, AreThoseThatAJobSets) {
  EXPECT_THAT(
      NamedFiles(WithDefaults(Minimal())),
      ElementsAre(
          testing::AllOf(Field(&NamedFile::field, "dataset.train_dataframe"), Field(&NamedFile::value, "rows.jsonl")),
          testing::AllOf(Field(&NamedFile::field, "architecture.llm_backbone"), Field(&NamedFile::value, "model"))));
}

TEST(NamedFiles, CanBeSetWhereTheyAre) {
  v1::Job job = Minimal();
  job.mutable_architecture()->set_pretrained_adapter("");
  for (const NamedFile& file : NamedFiles(job)) SetNamedFile(job, file.field, "/here/" + file.value);
  EXPECT_EQ(job.dataset().train_dataframe(), "/here/rows.jsonl");
  EXPECT_EQ(job.architecture().llm_backbone(), "/here/model");
  EXPECT_EQ(job.architecture().pretrained_adapter(), "");
}

TEST(IsValidUtf8, FollowsRfc3629) {
  EXPECT_TRUE(IsValidUtf8("aä€😀"));
  for (const char* bad : {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff"}) {
    EXPECT_FALSE(IsValidUtf8(bad));
  }
}

}  // namespace
}  // namespace studio
