#include "worker/data/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/artifact/sha256.h"
#include "common/status/macros.h"
#include "third_party/hf/hf_capi.h"
#include "worker/data/file_io.h"
#include "worker/data/hf_text.h"
#include "worker/data/json_file.h"

namespace studio {
namespace {

constexpr int64_t kMaxTokenizerBytes = int64_t{512} << 20;

// A special token is written as its text or as an object with the text in "content".
std::string TokenText(const Json& file, const char* key) {
  auto found = file.find(key);
  if (found == file.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object()) {
    auto content = found->find("content");
    if (content != found->end() && content->is_string()) return content->get<std::string>();
  }
  return "";
}

}  // namespace

void Tokenizer::Free::operator()(hf_tokenizer* tokenizer) const { hf_tokenizer_free(tokenizer); }

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::string& model_dir) {
  const std::string path = model_dir + "/tokenizer.json";
  ASSIGN_OR_RETURN(std::string json, dataprep::ReadFile(path, kMaxTokenizerBytes));
  HfText error;
  Tokenizer tokenizer;
  tokenizer.handle_.reset(hf_tokenizer_from_json(json.data(), json.size(), error.out()));
  if (tokenizer.handle_ == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not a tokenizer file: ", error.view(), "; it must be the model's own tokenizer.json"));
  }
  tokenizer.vocab_size_ = static_cast<int64_t>(hf_tokenizer_vocab_size(tokenizer.handle_.get()));
  tokenizer.sha256_ = Sha256Hex(json);
  RETURN_IF_ERROR(tokenizer.LoadSpecialTokens(model_dir));
  return tokenizer;
}

absl::Status Tokenizer::LoadSpecialTokens(const std::string& model_dir) {
  const std::pair<const char*, SpecialToken*> roles[] = {
      {"bos_token", &bos_}, {"eos_token", &eos_}, {"pad_token", &pad_}, {"unk_token", &unk_}};
  for (const char* name : {"/tokenizer_config.json", "/special_tokens_map.json"}) {
    ASSIGN_OR_RETURN(Json file, ReadJsonObjectIfThere(model_dir + name));
    for (const auto& [key, token] : roles) {
      if (token->text.empty()) token->text = TokenText(file, key);
    }
  }
  for (const auto& [key, token] : roles) {
    if (!token->text.empty()) token->id = TokenId(token->text);
  }
  if (eos_.id.has_value()) stop_ids_.push_back(*eos_.id);
  RETURN_IF_ERROR(AddStopIds(model_dir + "/generation_config.json"));
  RETURN_IF_ERROR(AddStopIds(model_dir + "/config.json"));
  std::sort(stop_ids_.begin(), stop_ids_.end());
  stop_ids_.erase(std::unique(stop_ids_.begin(), stop_ids_.end()), stop_ids_.end());
  return absl::OkStatus();
}

absl::Status Tokenizer::AddStopIds(const std::string& path) {
  ASSIGN_OR_RETURN(Json file, ReadJsonObjectIfThere(path));
  auto found = file.find("eos_token_id");
  if (found == file.end() || found->is_null()) return absl::OkStatus();
  for (const Json& id : found->is_array() ? *found : Json::array({*found})) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > UINT32_MAX) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": eos_token_id is ", Shown(*found), ", not a token id"));
    }
    stop_ids_.push_back(id.get<uint32_t>());
  }
  return absl::OkStatus();
}

std::optional<uint32_t> Tokenizer::TokenId(absl::string_view token) const {
  uint32_t id;
  if (!hf_tokenizer_token_to_id(handle_.get(), token.data(), token.size(), &id)) return std::nullopt;
  return id;
}

absl::StatusOr<std::vector<uint32_t>> Tokenizer::Encode(absl::string_view text, bool add_special_tokens) const {
  hf_ids ids{};
  HfText error;
  if (!hf_tokenizer_encode(handle_.get(), text.data(), text.size(), add_special_tokens, &ids, error.out())) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot tokenize a text of ", text.size(), " bytes: ", error.view()));
  }
  std::vector<uint32_t> result(ids.data, ids.data + ids.size);
  hf_ids_free(ids);
  return result;
}

absl::StatusOr<std::vector<std::vector<uint32_t>>> Tokenizer::EncodeBatch(std::span<const std::string> texts,
                                                                          int threads, bool add_special_tokens) const {
  std::vector<absl::StatusOr<std::vector<uint32_t>>> results(texts.size());
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t i; (i = next.fetch_add(1)) < texts.size();) results[i] = Encode(texts[i], add_special_tokens);
  };
  std::vector<std::jthread> helpers;
  for (int i = 1; i < threads && i < static_cast<int>(texts.size()); ++i) helpers.emplace_back(work);
  work();
  helpers.clear();  // joins
  std::vector<std::vector<uint32_t>> ids;
  ids.reserve(texts.size());
  for (auto& result : results) {
    RETURN_IF_ERROR(result.status());
    ids.push_back(*std::move(result));
  }
  return ids;
}

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const uint32_t> ids, bool skip_special_tokens) const {
  HfText text, error;
  if (!hf_tokenizer_decode(handle_.get(), ids.data(), ids.size(), skip_special_tokens, text.out(), error.out())) {
    return absl::InvalidArgumentError(absl::StrCat("cannot decode ", ids.size(), " tokens: ", error.view()));
  }
  return std::string(text.view());
}

}  // namespace studio
