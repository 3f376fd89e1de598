#include "worker/trainer/model/architecture.h"

#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status/macros.h"

namespace studio {
namespace {

using Json = nlohmann::json;

// A family: what config.json need not say.
struct Family {
  const char* model_type;
  int64_t default_max_positions;
  double default_rms_norm_eps;
  // Biases of q, k and v that the family has whatever config.json says (Qwen2).
  bool always_qkv_bias;
  // config.json's attention_bias and mlp_bias are read.
  bool reads_bias;
  // The default of `sliding_window` where config.json lacks it. 0: none.
  int64_t default_sliding_window;
  // sliding_window counts only where use_sliding_window is true (Qwen2).
  bool window_needs_switch;
};
constexpr std::array<Family, 3> kFamilies = {{
    {"llama", 2048, 1e-6, false, true, 0, false},
    {"mistral", 131072, 1e-6, false, false, 4096, false},
    {"qwen2", 32768, 1e-6, true, false, 4096, true},
}};

// Reads keys of one JSON object and keeps the first error, so that a list of reads needs no check after each.
class Reader {
 public:
  Reader(const Json& object, std::string file) : object_(object), file_(std::move(file)) {}

  int64_t Size(const char* key, int64_t fallback = 0, int64_t largest = int64_t{1} << 31) {
    const Json* value = Find(key);
    if (value == nullptr) {
      if (fallback <= 0) Fail(absl::StrCat("'", key, "' is missing"));
      return fallback;
    }
    if (!value->is_number_integer() || value->get<double>() < 1 || value->get<double>() > largest) {
      Fail(absl::StrCat("'", key, "' is ", value->dump(), ", want a whole number from 1 to ", largest));
      return 1;
    }
    return value->get<int64_t>();
  }

  double Number(const char* key, double fallback) {
    const Json* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() < 0) {
      Fail(absl::StrCat("'", key, "' is ", value->dump(), ", want a number of at least 0"));
      return fallback;
    }
    return value->get<double>();
  }

  double Positive(const char* key, double fallback) {
    const double number = Number(key, fallback);
    if (ok() && !(number > 0)) Fail(absl::StrCat("'", key, "' must be above 0"));
    return number;
  }

  bool Bool(const char* key, bool fallback) {
    const Json* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) {
      Fail(absl::StrCat("'", key, "' is ", value->dump(), ", want true or false"));
      return fallback;
    }
    return value->get<bool>();
  }

  std::string Text(const char* key, const std::string& fallback) {
    const Json* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) {
      Fail(absl::StrCat("'", key, "' is ", value->dump(), ", want a string"));
      return fallback;
    }
    return value->get<std::string>();
  }

  // Null counts as absent, as in Transformers.
  const Json* Find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  void Fail(const std::string& text) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(file_, ": ", text));
  }
  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }

 private:
  const Json& object_;
  std::string file_;
  absl::Status status_;
};

// Where Transformers 5 finds them: `rope_parameters`, else the older `rope_scaling`; theta inside or beside.
absl::StatusOr<RopeOptions> ParseRope(const Json& config, const std::string& file, int64_t max_positions) {
  Reader outer(config, file);
  RopeOptions rope;
  const Json* object = outer.Find("rope_scaling");
  if (object == nullptr) object = outer.Find("rope_parameters");
  rope.theta = outer.Positive("rope_theta", 10000);
  double partial = outer.Number("partial_rotary_factor", 1);
  const double outer_original = outer.Number("original_max_position_embeddings", 0);
  RETURN_IF_ERROR(outer.status());
  if (object != nullptr) {
    if (!object->is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(file, ": rope_parameters is no object"));
    }
    Reader reader(*object, absl::StrCat(file, ": rope_parameters"));
    const std::string kind = reader.Text("rope_type", reader.Text("type", "default"));
    rope.theta = reader.Positive("rope_theta", rope.theta);
    partial = reader.Number("partial_rotary_factor", partial);
    rope.original_max_positions = reader.Positive("original_max_position_embeddings", max_positions);
    if (outer_original > 0) rope.original_max_positions = outer_original;
    if (kind == "default") {
      rope.kind = RopeKind::kDefault;
    } else if (kind == "linear" || kind == "dynamic") {
      rope.kind = kind == "linear" ? RopeKind::kLinear : RopeKind::kDynamic;
    } else if (kind == "llama3") {
      rope.kind = RopeKind::kLlama3;
      for (const char* key : {"low_freq_factor", "high_freq_factor"}) {
        if (reader.Find(key) == nullptr) reader.Fail(absl::StrCat("'", key, "' is missing"));
      }
      rope.low_freq_factor = reader.Positive("low_freq_factor", 1);
      rope.high_freq_factor = reader.Positive("high_freq_factor", 4);
    } else if (kind == "yarn") {
      rope.kind = RopeKind::kYarn;
      rope.attention_factor = reader.Number("attention_factor", 0);
      rope.beta_fast = reader.Number("beta_fast", 32);
      rope.beta_slow = reader.Number("beta_slow", 1);
      if (rope.beta_fast == 0) rope.beta_fast = 32;
      if (rope.beta_slow == 0) rope.beta_slow = 1;
      rope.mscale = reader.Number("mscale", 0);
      rope.mscale_all_dim = reader.Number("mscale_all_dim", 0);
      rope.truncate = reader.Bool("truncate", true);
    } else {
      reader.Fail(absl::StrCat("rope_type '", kind, "' is not supported; supported are default, linear, dynamic, ",
                               "llama3, yarn"));
    }
    if (rope.kind != RopeKind::kDefault) {
      if (reader.Find("factor") == nullptr && rope.kind == RopeKind::kYarn) {
        rope.factor = max_positions / rope.original_max_positions;
      } else if (reader.Find("factor") == nullptr) {
        reader.Fail("'factor' is missing");
      } else {
        rope.factor = reader.Positive("factor", 1);
      }
    }
    RETURN_IF_ERROR(reader.status());
  }
  if (partial != 1) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": partial_rotary_factor ", partial, " is not supported"));
  }
  return rope;
}

}  // namespace

int64_t Architecture::ParameterCount() const {
  const int64_t attention = hidden_size * (2 * q_size() + 2 * kv_size()) + (qkv_bias ? q_size() + 2 * kv_size() : 0) +
                            (o_bias ? hidden_size : 0);
  const int64_t mlp = 3 * hidden_size * intermediate_size + (mlp_bias ? 2 * intermediate_size + hidden_size : 0);
  return num_layers * (attention + mlp + 2 * hidden_size) + hidden_size +
         vocab_size * hidden_size * (tie_word_embeddings ? 1 : 2);
}

absl::StatusOr<Architecture> ParseArchitecture(std::string_view text, std::string_view file_name) {
  const std::string file(file_name);
  const Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return absl::InvalidArgumentError(absl::StrCat(file, ": not a JSON object"));
  Reader reader(config, file);
  Architecture arch;
  arch.model_type = reader.Text("model_type", "");
  RETURN_IF_ERROR(reader.status());
  const Family* family = nullptr;
  for (const Family& row : kFamilies) {
    if (arch.model_type == row.model_type) family = &row;
  }
  if (family == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": model_type '", arch.model_type, "' is not supported; supported are ",
                     absl::StrJoin(kFamilies, ", ",
                                   [](std::string* out, const Family& row) { absl::StrAppend(out, row.model_type); })));
  }
  arch.hidden_size = reader.Size("hidden_size");
  arch.num_layers = reader.Size("num_hidden_layers", 0, 10000);
  arch.num_heads = reader.Size("num_attention_heads");
  RETURN_IF_ERROR(reader.status());
  arch.num_kv_heads = reader.Size("num_key_value_heads", arch.num_heads);
  if (reader.Find("head_dim") == nullptr && arch.hidden_size % arch.num_heads != 0) {
    reader.Fail(absl::StrCat("hidden_size ", arch.hidden_size, " is no multiple of num_attention_heads ",
                             arch.num_heads, ", and there is no head_dim"));
  }
  arch.head_dim = reader.Size("head_dim", std::max<int64_t>(1, arch.hidden_size / arch.num_heads));
  arch.intermediate_size = reader.Size("intermediate_size");
  arch.vocab_size = reader.Size("vocab_size");
  arch.max_positions = reader.Size("max_position_embeddings", family->default_max_positions);
  arch.rms_norm_eps = reader.Positive("rms_norm_eps", family->default_rms_norm_eps);
  arch.initializer_range = reader.Number("initializer_range", 0.02);
  arch.final_logit_soft_cap = reader.Number("final_logit_softcapping", 0);
  arch.tie_word_embeddings = reader.Bool("tie_word_embeddings", false);
  const bool attention_bias = family->reads_bias && reader.Bool("attention_bias", false);
  arch.qkv_bias = attention_bias || family->always_qkv_bias;
  arch.o_bias = attention_bias;
  arch.mlp_bias = family->reads_bias && reader.Bool("mlp_bias", false);
  const std::string activation = reader.Text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    reader.Fail(absl::StrCat("hidden_act '", activation, "' is not supported; supported is silu"));
  }
  if (arch.num_heads % arch.num_kv_heads != 0) {
    reader.Fail(absl::StrCat("num_attention_heads ", arch.num_heads, " is no multiple of num_key_value_heads ",
                             arch.num_kv_heads));
  }
  if (arch.head_dim % 2 != 0) reader.Fail(absl::StrCat("head_dim ", arch.head_dim, " is odd"));
  // An explicit null switches a family's default window off.
  const int64_t window = config.contains("sliding_window")
                             ? (reader.Find("sliding_window") ? reader.Size("sliding_window") : 0)
                             : family->default_sliding_window;
  const bool window_on = window > 0 && (!family->window_needs_switch || reader.Bool("use_sliding_window", false));
  if (window_on && window < arch.max_positions) {
    reader.Fail(absl::StrCat("sliding_window ", window, " below max_position_embeddings ", arch.max_positions,
                             " is not supported: every token would need a mask of its own"));
  }
  arch.stored_dtype = reader.Text("dtype", reader.Text("torch_dtype", ""));
  if (const Json* eos = reader.Find("eos_token_id")) {
    for (const Json& id : eos->is_array() ? *eos : Json::array({*eos})) {
      if (id.is_number_integer()) arch.eos_token_ids.push_back(id.get<int64_t>());
    }
  }
  RETURN_IF_ERROR(reader.status());
  ASSIGN_OR_RETURN(arch.rope, ParseRope(config, file, arch.max_positions));
  return arch;
}

absl::StatusOr<Architecture> ReadArchitecture(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/config.json");
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return absl::NotFoundError(absl::StrCat(path, ": cannot be read; a model folder needs a config.json"));
  std::ostringstream text;
  text << stream.rdbuf();
  return ParseArchitecture(text.str(), path);
}

}  // namespace studio
