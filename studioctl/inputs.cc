#include "studioctl/inputs.h"

#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/artifact/file_tree.h"
#include "common/artifact/uri.h"
#include "common/job/job_rules.h"
#include "common/status/macros.h"

namespace studio::ctl {
namespace {

namespace fs = std::filesystem;

// Hugging Face's cache keeps a snapshot's files as links into ../../blobs.
std::string CacheBlobs(const fs::path& folder) {
  std::error_code code;
  const fs::path snapshot = fs::canonical(folder, code);
  if (code || snapshot.parent_path().filename() != "snapshots") return "";
  return (snapshot.parent_path().parent_path() / "blobs").string();
}

}  // namespace

bool IsModelFile(absl::string_view path) {
  if (absl::StrContains(path, "/")) return false;
  for (const absl::string_view name :
       {"config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
        "vocab.json", "vocab.txt", "merges.txt"}) {
    if (path == name) return true;
  }
  return absl::StartsWith(path, "tokenizer") || absl::EndsWith(path, ".safetensors") ||
         absl::EndsWith(path, ".safetensors.index.json");
}

absl::StatusOr<std::vector<LocalInput>> FindInputs(const v1::Job& job, const std::string& folder,
                                                   const std::function<void(const std::string&)>& hashing) {
  std::vector<LocalInput> inputs;
  for (const NamedFile& named : NamedFiles(job)) {
    const auto refused = [&](absl::string_view why) {
      return absl::InvalidArgumentError(absl::StrCat(named.field, ": ", why));
    };
    const absl::StatusOr<Uri> uri = ParseUri(named.value);
    if (!uri.ok()) return refused(uri.status().message());
    if (uri->kind != Uri::Kind::kPath) continue;
    const std::string path = (fs::path(folder) / uri->path).lexically_normal().string();
    TreeOptions options;
    if (named.field == "architecture.llm_backbone") options.include = IsModelFile;
    options.link_root = CacheBlobs(path);
    if (hashing) hashing(path);
    absl::StatusOr<v1::Artifact> artifact = HashTree(path, options);
    if (absl::IsNotFound(artifact.status())) return refused(absl::StrCat(path, " is not there"));
    if (!artifact.ok()) return refused(artifact.status().message());
    if (named.field == "architecture.llm_backbone" && artifact->single_file()) {
      return refused(absl::StrCat(path, " is a file; name the folder that holds config.json"));
    }
    LocalInput local;
    local.path = path;
    local.input.set_field(named.field);
    *local.input.mutable_artifact() = *std::move(artifact);
    local.input.mutable_artifact()->set_uri("studio:");
    inputs.push_back(std::move(local));
  }
  return inputs;
}

}  // namespace studio::ctl
