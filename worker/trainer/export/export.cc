#include "worker/trainer/export/export.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/safetensors/writer.h"
#include "common/status/macros.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/model/weights.h"

namespace studio {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array kTokenizerFiles = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt",     "tokenizer.model",       "chat_template.jinja",     "chat_template.json"};

absl::Status MakeFolder(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) return absl::InternalError(absl::StrCat("cannot make folder ", dir, ": ", error.message()));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// Under a temporary name first: a file that is there is whole.
absl::Status WriteText(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  {
    std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
    stream << text;
    stream.flush();
    if (!stream) return absl::InternalError(absl::StrCat("cannot write ", temporary));
  }
  const int fd = open(temporary.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  std::error_code error;
  fs::rename(temporary, path, error);
  if (!synced || error) return absl::InternalError(absl::StrCat("cannot finish ", path));
  return absl::OkStatus();
}

absl::Status CopyIfThere(const std::string& from_dir, const std::string& to_dir, const std::string& name) {
  absl::StatusOr<std::string> text = ReadText(from_dir + "/" + name);
  if (!text.ok()) return absl::OkStatus();
  return WriteText(to_dir + "/" + name, *text);
}

absl::Status CopyTokenizer(const std::string& from_dir, const std::string& to_dir) {
  for (const char* name : kTokenizerFiles) RETURN_IF_ERROR(CopyIfThere(from_dir, to_dir, name));
  return absl::OkStatus();
}

// Sums the shapes' products.
int64_t Bytes(const CausalLm::Weight& weight, safetensors::Dtype dtype) {
  int64_t bytes = safetensors::BytesPerElement(dtype);
  for (const int64_t size : weight.shape) bytes *= size;
  return bytes;
}

absl::Status WriteShard(const std::string& path, const std::vector<CausalLm::Weight>& weights,
                        safetensors::Dtype dtype) {
  std::vector<safetensors::TensorSpec> specs;
  for (const CausalLm::Weight& weight : weights) specs.push_back({weight.name, dtype, weight.shape});
  ASSIGN_OR_RETURN(const auto writer, safetensors::Writer::Create(path, specs));
  for (const CausalLm::Weight& weight : weights) {
    absl::Status written;
    RETURN_IF_ERROR(CatchTorchStatus([&] {
      const at::Tensor value = weight.value();
      written = writer->Append({static_cast<const char*>(value.data_ptr()), value.nbytes()});
    }));
    RETURN_IF_ERROR(written);
  }
  return writer->Finish();
}

// "q_proj" of "model.layers.3.self_attn.q_proj", each once, sorted.
std::vector<std::string> TargetModules(const CausalLm& model) {
  std::set<std::string> names;
  for (const NamedTensor& tensor : model.Adapter()) {
    const std::string module = tensor.name.substr(0, tensor.name.find(".lora_"));
    names.insert(module.substr(module.rfind('.') + 1));
  }
  return {names.begin(), names.end()};
}

}  // namespace

absl::Status ExportAdapter(const CausalLm& model, const std::string& out_dir, const std::string& base_model_name) {
  if (!model.options().lora) {
    return absl::FailedPreconditionError("export.format ADAPTER needs training.lora; use MODEL");
  }
  const LoraConfig& lora = *model.options().lora;
  RETURN_IF_ERROR(MakeFolder(out_dir));
  const std::vector<NamedTensor> adapter = model.Adapter();
  std::vector<safetensors::TensorSpec> specs;
  for (const NamedTensor& t : adapter) specs.push_back({t.name, safetensors::Dtype::kF32, t.tensor.sizes().vec()});
  ASSIGN_OR_RETURN(const auto writer, safetensors::Writer::Create(out_dir + "/adapter_model.safetensors", specs));
  for (const NamedTensor& t : adapter) {
    absl::Status written;
    RETURN_IF_ERROR(CatchTorchStatus([&] {
      const at::Tensor value = t.tensor.detach().cpu().contiguous();
      written = writer->Append({static_cast<const char*>(value.data_ptr()), value.nbytes()});
    }));
    RETURN_IF_ERROR(written);
  }
  RETURN_IF_ERROR(writer->Finish());
  RETURN_IF_ERROR(CopyTokenizer(model.dir(), out_dir));
  // As job or PEFT named them, where a name says more than a module's last part.
  std::vector<std::string> targets = lora.target_modules;
  if (targets.empty()) targets = TargetModules(model);
  Json config;
  config["peft_type"] = "LORA";
  config["task_type"] = "CAUSAL_LM";
  config["base_model_name_or_path"] = base_model_name;
  config["r"] = lora.r;
  // PEFT's own files hold a whole number here.
  if (lora.alpha == static_cast<double>(static_cast<int64_t>(lora.alpha))) {
    config["lora_alpha"] = static_cast<int64_t>(lora.alpha);
  } else {
    config["lora_alpha"] = lora.alpha;
  }
  config["lora_dropout"] = lora.dropout;
  config["use_rslora"] = lora.rslora;
  config["use_dora"] = false;
  config["bias"] = "none";
  config["fan_in_fan_out"] = false;
  config["init_lora_weights"] = true;
  config["inference_mode"] = true;
  config["modules_to_save"] = nullptr;
  config["rank_pattern"] = Json::object();
  config["alpha_pattern"] = Json::object();
  config["target_modules"] = targets;
  return WriteText(out_dir + "/adapter_config.json", config.dump(2) + "\n");
}

absl::Status ExportModel(const CausalLm& model, const std::string& out_dir, const ModelExportOptions& options) {
  const Architecture& arch = model.architecture();
  std::string dtype_name = options.dtype.empty() ? arch.stored_dtype : options.dtype;
  if (dtype_name.empty()) dtype_name = "float32";
  ASSIGN_OR_RETURN(const at::ScalarType type, ScalarTypeNamed(dtype_name));
  const safetensors::Dtype dtype = DtypeOf(type);
  RETURN_IF_ERROR(MakeFolder(out_dir));

  std::vector<std::vector<CausalLm::Weight>> shards(1);
  int64_t total = 0, shard_bytes = 0;
  for (CausalLm::Weight& weight : model.Weights(type, /*merged=*/true)) {
    const int64_t bytes = Bytes(weight, dtype);
    if (shard_bytes > 0 && shard_bytes + bytes > options.max_shard_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shard_bytes += bytes;
    total += bytes;
    shards.back().push_back(std::move(weight));
  }
  if (shards.size() == 1) {
    RETURN_IF_ERROR(WriteShard(out_dir + "/model.safetensors", shards[0], dtype));
  } else {
    Json index;
    index["metadata"]["total_size"] = total;
    for (size_t i = 0; i < shards.size(); ++i) {
      const std::string name = absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
      RETURN_IF_ERROR(WriteShard(out_dir + "/" + name, shards[i], dtype));
      for (const CausalLm::Weight& weight : shards[i]) index["weight_map"][weight.name] = name;
    }
    RETURN_IF_ERROR(WriteText(out_dir + "/model.safetensors.index.json", index.dump(2) + "\n"));
  }
  RETURN_IF_ERROR(CopyTokenizer(model.dir(), out_dir));
  RETURN_IF_ERROR(CopyIfThere(model.dir(), out_dir, "generation_config.json"));
  ASSIGN_OR_RETURN(const std::string text, ReadText(model.dir() + "/config.json"));
  Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return absl::InvalidArgumentError(model.dir() + "/config.json: not a JSON object");
  // One key for the type: Transformers 5 writes `dtype`, older folders have `torch_dtype`.
  config[config.contains("torch_dtype") && !config.contains("dtype") ? "torch_dtype" : "dtype"] = dtype_name;
  return WriteText(out_dir + "/config.json", config.dump(2) + "\n");
}

}  // namespace studio
