#include "worker/data/prepare.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/data/chat_template.h"
#include "worker/data/example_maker.h"
#include "worker/data/example_spool.h"
#include "worker/data/file_io.h"
#include "worker/data/model_limits.h"
#include "worker/data/packing.h"
#include "worker/data/prepare_key.h"
#include "worker/data/row_pass.h"
#include "worker/data/sample_prompts.h"
#include "worker/data/shard_folder.h"
#include "worker/data/split.h"
#include "worker/data/token_shard_writer.h"
#include "worker/data/tokenizer.h"

namespace studio {
namespace {

// Held-out conversations kept for samples.
constexpr size_t kPrompts = 8;

// What the model folder gives, and the job's settings resolved against it.
struct Inputs {
  Tokenizer tokenizer;
  ChatTemplate chat;
  int64_t vocab_size;
  int64_t max_length;
};

absl::StatusOr<Inputs> LoadInputs(const v1::Job& job) {
  const std::string& model_dir = job.architecture().llm_backbone();
  ASSIGN_OR_RETURN(ModelLimits limits, ReadModelLimits(model_dir));
  ASSIGN_OR_RETURN(int64_t max_length, ResolveMaxLength(job.tokenizer().max_length(), limits));
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(model_dir));
  ASSIGN_OR_RETURN(ChatTemplate chat, ChatTemplate::Load(model_dir, tokenizer, job.dataset().chat_template()));
  const int64_t vocab_size = limits.vocab_size > 0 ? limits.vocab_size : tokenizer.vocab_size();
  return Inputs{std::move(tokenizer), std::move(chat), vocab_size, max_length};
}

int Threads(const v1::Job& job) {
  const int asked = job.environment().number_of_workers();
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Several calls a second would only be noise on a terminal.
class ProgressMeter {
 public:
  ProgressMeter(const PrepareProgressFn& report, int64_t total) : report_(report), total_(total) {}
  void Report(int64_t done) {
    const auto now = std::chrono::steady_clock::now();
    if (!report_ || (done < total_ && now - last_ < std::chrono::milliseconds(250))) return;
    last_ = now;
    report_({done, total_});
  }

 private:
  const PrepareProgressFn& report_;
  const int64_t total_;
  std::chrono::steady_clock::time_point last_{};
};

// Collects tokenised rows: examples to the spools, the rest to the report.
class Collector {
 public:
  Collector(ExampleSpool train, ExampleSpool validation)
      : train_(std::move(train)), validation_(std::move(validation)) {}

  absl::Status Add(TokenizedRow row) {
    if (!row.made.dropped.empty()) {
      ++(*report.mutable_dropped())[row.made.dropped];
      if (detail_.empty() && !row.made.dropped_detail.empty()) {
        detail_ = absl::StrCat(row.where, ": dropped: ", row.made.dropped, " (", row.made.dropped_detail, ")");
      }
    }
    report.set_truncated(report.truncated() + row.made.truncated);
    for (uint32_t quirk : {kRewritesHistory, kOddGenerationPrompt, kNoEndOfTurn})
      quirks_[quirk] += (row.made.quirks & quirk) != 0;
    const bool held_out = row.use == RowUse::kValidation;
    for (const Example& example : row.made.examples) {
      report.set_tokens(report.tokens() + static_cast<int64_t>(example.tokens.size()));
      report.set_valid_tokens(report.valid_tokens() + std::count(example.learn.begin(), example.learn.end(), 1));
      RETURN_IF_ERROR((held_out ? validation_ : train_).Append(example));
    }
    if (held_out && !row.made.examples.empty() && prompts.size() < kPrompts) prompts.push_back(PromptRecord(row.talk));
    return absl::OkStatus();
  }

  absl::Status Finish() {
    RETURN_IF_ERROR(train_.Finish());
    RETURN_IF_ERROR(validation_.Finish());
    report.set_train_examples(static_cast<int64_t>(train_.size()));
    report.set_validation_examples(static_cast<int64_t>(validation_.size()));
    if (!detail_.empty()) report.add_notes(detail_);
    AddQuirkNote(kRewritesHistory,
                 "the chat template writes earlier turns differently once later ones follow: each "
                 "answer became an example of its own");
    AddQuirkNote(kOddGenerationPrompt,
                 "the chat template's generation prompt is not how its answers begin: answers are "
                 "learnt from the end of the turn before");
    AddQuirkNote(kNoEndOfTurn, "the chat template writes nothing after an answer: the model does not learn to stop");
    return absl::OkStatus();
  }

  const ExampleSpool& train() const { return train_; }
  const ExampleSpool& validation() const { return validation_; }

  v1::DataReport report;
  Json prompts = Json::array();

 private:
  void AddQuirkNote(TemplateQuirk quirk, absl::string_view text) {
    if (quirks_[quirk] > 0) report.add_notes(absl::StrCat(text, " (", quirks_[quirk], " rows)"));
  }

  ExampleSpool train_;
  ExampleSpool validation_;
  std::map<uint32_t, int64_t> quirks_;
  std::string detail_;
};

absl::StatusOr<int64_t> WriteShards(const std::string& folder, absl::string_view set, const ExampleSpool& examples,
                                    const v1::Job& job, const Inputs& inputs) {
  std::vector<PackedRow> rows;
  if (job.dataset().packing()) {
    rows = PackExamples(examples.lengths(), static_cast<uint32_t>(inputs.max_length), job.environment().seed());
  } else {
    for (uint32_t i = 0; i < examples.size(); ++i) rows.push_back({i});
  }
  size_t row = 0;
  for (size_t number = 0; row < rows.size(); ++number) {
    TokenShardWriter writer(absl::StrCat(folder, "/", ShardName(set, number)), inputs.max_length, inputs.vocab_size);
    for (; row < rows.size() && writer.tokens() < TokenShardWriter::kTokensPerShard; ++row) {
      writer.BeginRow();
      for (uint32_t example : rows[row]) writer.AddExample(examples.tokens(example), examples.learn(example));
    }
    RETURN_IF_ERROR(writer.Finish());
  }
  return static_cast<int64_t>(rows.size());
}

void AddInputNotes(const Inputs& inputs, v1::DataReport* report) {
  if (inputs.chat.origin().find("ChatML") == std::string::npos) return;
  report->add_notes("the model folder has no chat template: ChatML is used");
  if (!inputs.tokenizer.TokenId("<|im_start|>").has_value()) {
    report->add_notes(
        "ChatML's <|im_start|> and <|im_end|> are not in the vocabulary: they are written in pieces, and "
        "the model learns to stop from them; dataset.chat_template may name a better one");
  }
}

// Makes everything in `folder`, which is empty.
absl::Status Fill(const v1::Job& job, const Inputs& inputs, const std::string& folder,
                  const PrepareProgressFn& progress) {
  const v1::Dataset& dataset = job.dataset();
  const bool custom = dataset.validation_strategy() == v1::Dataset::CUSTOM;
  ASSIGN_OR_RETURN(RowScan train, ScanRows(dataset.train_dataframe(), dataset));
  std::optional<RowScan> validation;
  if (custom) {
    ASSIGN_OR_RETURN(validation, ScanRows(dataset.validation_dataframe(), dataset));
  }
  const std::vector<RowUse> use = SelectRows(train.usable, {.seed = job.environment().seed(),
                                                            .validation_size = custom ? 0 : dataset.validation_size(),
                                                            .data_sample = dataset.data_sample()});

  ASSIGN_OR_RETURN(ExampleSpool train_spool, ExampleSpool::Create(folder + "/train.spool"));
  ASSIGN_OR_RETURN(ExampleSpool validation_spool, ExampleSpool::Create(folder + "/validation.spool"));
  Collector collector(std::move(train_spool), std::move(validation_spool));
  v1::DataReport& report = collector.report;
  const int64_t train_rows = static_cast<int64_t>(train.usable.size());
  int64_t usable = train.usable_rows;
  report.set_rows(train_rows);
  if (validation.has_value()) {
    report.set_rows(report.rows() + static_cast<int64_t>(validation->usable.size()));
    usable += validation->usable_rows;
  }
  if (report.rows() > usable) (*report.mutable_dropped())["no answer"] = report.rows() - usable;
  const int64_t drawn = std::count_if(use.begin(), use.end(), [](RowUse u) { return u != RowUse::kUnused; });
  if (drawn < train.usable_rows) (*report.mutable_dropped())["not drawn (data_sample)"] = train.usable_rows - drawn;
  if (!custom && dataset.validation_size() > 0 && train.usable_rows == 1) {
    report.add_notes("one row alone has an answer: none is held out");
  }
  AddInputNotes(inputs, &report);

  const ExampleMaker maker(inputs.chat, inputs.tokenizer,
                           {.mask_prompt_labels = dataset.mask_prompt_labels(),
                            .only_last_answer = dataset.only_last_answer(),
                            .max_length = inputs.max_length,
                            .vocab_size = inputs.vocab_size});
  ProgressMeter meter(progress, report.rows());
  auto add = [&](TokenizedRow row) { return collector.Add(std::move(row)); };
  RETURN_IF_ERROR(TokenizeRows(
      dataset.train_dataframe(), train, use, maker, Threads(job), [&](int64_t done) { meter.Report(done); }, add));
  if (validation.has_value()) {
    std::vector<RowUse> held_out(validation->usable.size(), RowUse::kUnused);
    for (size_t i = 0; i < held_out.size(); ++i) {
      if (validation->usable[i]) held_out[i] = RowUse::kValidation;
    }
    RETURN_IF_ERROR(TokenizeRows(
        dataset.validation_dataframe(), *validation, held_out, maker, Threads(job),
        [&](int64_t done) { meter.Report(train_rows + done); }, add));
  }
  RETURN_IF_ERROR(collector.Finish());
  if (report.train_examples() == 0) {
    std::string why;
    for (const std::string& note : report.notes()) absl::StrAppend(&why, "; ", note);
    return absl::InvalidArgumentError(absl::StrCat(dataset.train_dataframe(), ": no training example is left of ",
                                                   train_rows, " rows at max_length ", inputs.max_length, why));
  }
  report.set_max_length(static_cast<int32_t>(inputs.max_length));
  ASSIGN_OR_RETURN(int64_t packed_train, WriteShards(folder, "train", collector.train(), job, inputs));
  ASSIGN_OR_RETURN(int64_t packed_validation, WriteShards(folder, "validation", collector.validation(), job, inputs));
  report.set_train_rows(packed_train);
  report.set_validation_rows(packed_validation);

  std::string text;
  google::protobuf::TextFormat::PrintToString(report, &text);
  RETURN_IF_ERROR(dataprep::WriteFile(folder + "/report.pb.txt", text));
  return dataprep::WriteFile(folder + "/prompts.json", Dump(collector.prompts) + "\n");
}

absl::StatusOr<std::string> KeyText(const v1::Job& job, const Inputs& inputs) {
  KeyParts parts;
  ASSIGN_OR_RETURN(parts.train_sha256, Sha256OfFile(job.dataset().train_dataframe()));
  if (job.dataset().validation_strategy() == v1::Dataset::CUSTOM) {
    ASSIGN_OR_RETURN(parts.validation_sha256, Sha256OfFile(job.dataset().validation_dataframe()));
  }
  parts.tokenizer_sha256 = inputs.tokenizer.sha256();
  parts.chat_template = inputs.chat.source();
  for (const SpecialToken* token :
       {&inputs.tokenizer.bos(), &inputs.tokenizer.eos(), &inputs.tokenizer.pad(), &inputs.tokenizer.unk()}) {
    absl::StrAppend(&parts.special_tokens, Dump(token->text));
  }
  parts.max_length = inputs.max_length;
  parts.vocab_size = inputs.vocab_size;
  return PrepareKeyText(job, parts);
}

absl::Status MakeFolder(const v1::Job& job, const Inputs& inputs, const ShardFolder& folder,
                        const PrepareProgressFn& progress) {
  ASSIGN_OR_RETURN(std::string temp, folder.Begin());
  RETURN_IF_ERROR(Fill(job, inputs, temp, progress));
  return folder.Commit(temp);
}

}  // namespace

absl::StatusOr<PreparedData> Prepare(const v1::Job& job, const std::string& data_dir,
                                     const PrepareProgressFn& progress) {
  if (job.dataset().validation_strategy() == v1::Dataset::CUSTOM && job.dataset().validation_dataframe().empty()) {
    return absl::InvalidArgumentError("dataset.validation_strategy is CUSTOM: set dataset.validation_dataframe");
  }
  ASSIGN_OR_RETURN(Inputs inputs, LoadInputs(job));
  ASSIGN_OR_RETURN(std::string key_text, KeyText(job, inputs));
  RETURN_IF_ERROR(MakeFolders(data_dir));
  const ShardFolder folder(data_dir, std::move(key_text));

  PreparedData data;
  ASSIGN_OR_RETURN(std::optional<ShardSet> set, folder.Load());
  data.reused = set.has_value();
  if (!set.has_value()) {
    ASSIGN_OR_RETURN(FileLock lock, folder.Lock());
    // Whoever held the lock may have made it.
    std::string damage;
    ASSIGN_OR_RETURN(set, folder.Load(&damage));
    data.reused = set.has_value();
    if (!set.has_value()) {
      RETURN_IF_ERROR(MakeFolder(job, inputs, folder, progress));
      ASSIGN_OR_RETURN(set, folder.Load(&damage));
      if (!set.has_value()) return absl::DataLossError(absl::StrCat("just written and not readable: ", damage));
    }
  }
  data.key = folder.key();
  data.folder = folder.path();
  data.train = std::move(set->train);
  data.validation = std::move(set->validation);
  data.report = std::move(set->report);
  ASSIGN_OR_RETURN(data.sample_prompts,
                   MakeSamplePrompts(job.prediction(), set->prompts, inputs.chat, inputs.tokenizer));
  data.stop_tokens = StopTokens(inputs.chat, inputs.tokenizer);
  return data;
}

}  // namespace studio
