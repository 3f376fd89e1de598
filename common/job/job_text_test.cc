#include "common/job/job_text.h"

#include <string>

#include "common/status/testing.h"

namespace studio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(ParseJobText, ReadsWhatPeopleWrite) {
  ASSERT_OK_AND_ASSIGN(const v1::Job job, ParseJobText("# a comment\nname: \"faq\"\n"
                                                       "training { learning_rate: 2e-5 schedule: LINEAR }\n"
                                                       "labels { key: \"team\" value: \"search\" }",
                                                       "job.pb.txt"));
  EXPECT_EQ(job.name(), "faq");
  EXPECT_EQ(job.training().learning_rate(), 2e-5);
  EXPECT_EQ(job.training().schedule(), v1::Training::LINEAR);
  EXPECT_EQ(job.labels().at("team"), "search");
}

// What is said of each slip, and where an editor is sent.
struct Slip {
  const char* name;
  const char* text;
  const char* message;
};

class ParseJobTextSlip : public testing::TestWithParam<Slip> {};

TEST_P(ParseJobTextSlip, IsPointedAtAndMended) {
  EXPECT_THAT(ParseJobText(GetParam().text, "job.pb.txt"), StatusIs(kInvalid, StartsWith(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, ParseJobTextSlip,
    testing::Values(
        Slip{"UnknownSection", "name: \"x\"\ntraning { batch_size: 1 }",
             "job.pb.txt:2:1: unknown field 'traning' in the job (did you mean 'training'?)"},
        Slip{"UnknownField", "training {\n  lerning_rate: 1\n}",
             "job.pb.txt:2:3: unknown field 'lerning_rate' in Training (did you mean 'learning_rate'?)"},
        Slip{"AfterATab", "training {\n\tlerning_rate: 1\n}", "job.pb.txt:2:2: unknown field 'lerning_rate'"},
        Slip{"AfterALongCharacter", "name: \"ä\" nom: 1", "job.pb.txt:1:11: unknown field 'nom'"},
        Slip{"ValueOnTheNextLine", "nam:\n  \"x\"", "job.pb.txt:1:1: unknown field 'nam'"},
        Slip{"AtTheEnd", "name", "job.pb.txt:1:5: "},
        Slip{"UnknownFieldAtTheEnd", "nome", "job.pb.txt:1:1: unknown field 'nome' in the job (did you mean 'name'?)"},
        Slip{"WrongSection", "learning_rate: 1",
             "job.pb.txt:1:1: unknown field 'learning_rate' in the job (did you mean 'training.learning_rate'?)"},
        Slip{"NothingNear", "tokenizer { colour_of_the_sky: 1 }",
             "job.pb.txt:1:13: unknown field 'colour_of_the_sky' in Tokenizer (known: max_length)"},
        Slip{"UnknownValue", "training { schedule: COSIN }",
             "job.pb.txt:1:22: unknown value 'COSIN' for schedule (did you mean COSINE?); accepted: COSINE, LINEAR, "
             "CONSTANT"},
        Slip{"WrongType", "training { batch_size: \"two\" }", "job.pb.txt:1:24: Expected integer, got: \"two\""},
        Slip{"NumberForAString", "name: 3", "job.pb.txt:1:7: Expected string, got: 3"},
        Slip{"TooLarge", "training { batch_size: 3000000000 }", "job.pb.txt:1:24: Integer out of range"},
        Slip{"Twice", "name: \"a\"\nname: \"b\"", "job.pb.txt:2:1: 'name' is given twice: keep one"},
        Slip{"Unclosed", "training {\n  batch_size: 1\n", "job.pb.txt:3:1: "},
        Slip{"OpenString", "name: \"x\n", "job.pb.txt:1:9: "}),
    [](const auto& info) { return info.param.name; });

TEST(ParseJobText, RefusesADataFile) {
  EXPECT_THAT(ParseJobText(std::string(kMaxJobTextBytes + 1, ' '), "rows.jsonl"),
              StatusIs(kInvalid, HasSubstr("rows.jsonl: the job has 1048577 bytes")));
}

TEST(ApplySet, SetsEachKindOfField) {
  v1::Job job;
  job.mutable_training()->add_lora_target_modules("old");
  for (const char* assignment :
       {"training.learning_rate=1e-4", "training.batch_size=4", "training.lora=false", "training.schedule=CONSTANT",
        "environment.seed=18446744073709551615", "dataset.train_dataframe=/data/a=b, c.jsonl",
        "training.lora_target_modules=q_proj,v_proj", "prediction.sample_prompts=[\"a, b\", \"c\"]",
        "labels.team=search", "dataset.prompt_column_separator=\"\\n\"", "name="}) {
    ASSERT_OK(ApplySet(job, assignment)) << assignment;
  }
  EXPECT_EQ(job.training().learning_rate(), 1e-4);
  EXPECT_EQ(job.training().batch_size(), 4);
  EXPECT_TRUE(job.training().has_lora());
  EXPECT_FALSE(job.training().lora());
  EXPECT_EQ(job.training().schedule(), v1::Training::CONSTANT);
  EXPECT_EQ(job.environment().seed(), 18446744073709551615u);
  EXPECT_EQ(job.dataset().train_dataframe(), "/data/a=b, c.jsonl");
  EXPECT_THAT(job.training().lora_target_modules(), ElementsAre("q_proj", "v_proj"));
  EXPECT_THAT(job.prediction().sample_prompts(), ElementsAre("a, b", "c"));
  EXPECT_EQ(job.labels().at("team"), "search");
  EXPECT_EQ(job.dataset().prompt_column_separator(), "\n");
}

TEST(ApplySet, SaysWhatIsWrong) {
  v1::Job job;
  const auto message = [&](absl::string_view assignment) { return std::string(ApplySet(job, assignment).message()); };
  EXPECT_EQ(message("training.learning_rate"),
            "--set training.learning_rate: expected FIELD=VALUE, as in training.learning_rate=1e-4");
  EXPECT_EQ(message("training.learning_rte=1"),
            "--set training.learning_rte: there is no field 'learning_rte' (did you mean 'learning_rate'?)");
  EXPECT_EQ(message("learning_rate=1"),
            "--set learning_rate: there is no field 'learning_rate' (did you mean 'training.learning_rate'?)");
  EXPECT_EQ(message("training.batch_size=many"), "--set training.batch_size: 'many' is not a whole number");
  EXPECT_EQ(message("training.batch_size=1 lora: false"),
            "--set training.batch_size: '1 lora: false' is not a whole number");
  EXPECT_EQ(message("training.batch_size="), "--set training.batch_size: '' is not a whole number");
  EXPECT_EQ(message("training.schedule=UP"), "--set training.schedule: 'UP' is not one of COSINE, LINEAR, CONSTANT");
  EXPECT_THAT(message("training.lora_target_modules=[\"a\"] lora: false"), HasSubstr("is not a list such as"));
  EXPECT_THAT(message("training.lora_target_modules=[1]"), HasSubstr("is not a list such as"));
  EXPECT_THAT(message("tokenizer=1"), HasSubstr("this is a section; set a field of it: max_length"));
  EXPECT_THAT(message("name.x=1"), HasSubstr("'name' has no fields of its own"));
  EXPECT_THAT(message("labels=1"), HasSubstr("labels.team=search"));
}

}  // namespace
}  // namespace studio
