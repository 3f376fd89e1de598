#include "worker/trainer/checkpoint/checkpoint.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <google/protobuf/text_format.h>

#include <cstring>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/safetensors/reader.h"
#include "common/safetensors/writer.h"
#include "common/status/check.h"
#include "common/status/macros.h"
#include "worker/trainer/checkpoint/file_ref.h"
#include "worker/trainer/checkpoint/identity.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/status/failure.h"

namespace studio {
namespace {

constexpr char kStateFile[] = "state.pb.txt";

std::string TensorFile(int rank) { return absl::StrCat("rank-", rank, ".safetensors"); }

std::string ToText(const google::protobuf::Message& message) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(message, &text);
  return text;
}

absl::Status FromText(const std::string& text, const std::string& path, google::protobuf::Message& message) {
  if (google::protobuf::TextFormat::ParseFromString(text, &message)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, " is not a ", message.GetTypeName(), " in text form"));
}

// Quantised states are bytes, everything else is fp32.
at::ScalarType TypeInFile(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kByte ? at::kByte : at::kFloat;
}
safetensors::Dtype DtypeOf(const at::Tensor& tensor) {
  return TypeInFile(tensor) == at::kByte ? safetensors::Dtype::kU8 : safetensors::Dtype::kF32;
}

absl::Status WriteTensors(const std::string& path, const TensorsByName& tensors) {
  std::vector<safetensors::TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    STUDIO_CHECK(tensor.is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == TypeInFile(tensor)) << name;
    specs.push_back({name, DtypeOf(tensor), tensor.sizes().vec()});
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<safetensors::Writer> writer, safetensors::Writer::Create(path, specs));
  for (const auto& [name, tensor] : tensors) {
    RETURN_IF_ERROR(writer->Append({static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()}));
  }
  return writer->Finish();
}

absl::Status CheckFiles(const std::string& folder, const v1::CheckpointManifest& manifest) {
  for (const v1::CheckpointShard& shard : manifest.shards()) {
    ASSIGN_OR_RETURN(const v1::FileRef found, HashFile(folder, shard.file().path()));
    if (found.size_bytes() != shard.file().size_bytes() || found.sha256() != shard.file().sha256()) {
      return absl::DataLossError(absl::StrCat(shard.file().path(), " has ", found.size_bytes(), " bytes and SHA-256 ",
                                              found.sha256(), ", its manifest says ", shard.file().size_bytes(),
                                              " and ", shard.file().sha256()));
    }
  }
  return absl::OkStatus();
}

// Every wanted tensor is in the file with its shape and type, and no other.
absl::Status CheckTensors(const safetensors::File& file, const TensorsByName& tensors) {
  for (const auto& [name, tensor] : tensors) {
    const safetensors::Tensor* found = file.Find(name);
    if (found == nullptr) return absl::DataLossError(absl::StrCat("tensor ", name, " is missing"));
    const at::IntArrayRef shape = tensor.sizes();
    if (found->info.dtype != DtypeOf(tensor) || at::IntArrayRef(found->info.shape) != shape) {
      return absl::DataLossError(absl::StrCat(
          "tensor ", name, " is ", std::string(Name(found->info.dtype)), " [", absl::StrJoin(found->info.shape, ", "),
          "], wanted ", std::string(Name(DtypeOf(tensor))), " [", absl::StrJoin(shape, ", "), "]"));
    }
  }
  if (file.tensors().size() != tensors.size()) {
    return absl::DataLossError(absl::StrCat("it has ", file.tensors().size(), " tensors, wanted ", tensors.size()));
  }
  return absl::OkStatus();
}

absl::Status CopyFrom(const safetensors::File& file, const TensorsByName& tensors) {
  return CatchTorch([&] {
    at::NoGradGuard no_grad;
    for (const auto& [name, tensor] : tensors) {
      const std::string_view data = file.Find(name)->data;
      const at::Tensor host = at::empty(tensor.sizes(), TypeInFile(tensor));
      // The mapping may have any alignment.
      std::memcpy(host.mutable_data_ptr(), data.data(), data.size());
      tensor.copy_(host);
    }
  });
}

absl::StatusOr<v1::TrainingState> ReadStateFile(Env& env, const std::string& folder) {
  ASSIGN_OR_RETURN(const std::string text, env.ReadFile(absl::StrCat(folder, "/", kStateFile)));
  v1::TrainingState state;
  RETURN_IF_ERROR(FromText(text, kStateFile, state));
  return state;
}

absl::StatusOr<v1::TrainingState> ReadChecked(Env& env, const std::string& folder, int rank,
                                              const v1::TrainingState& run, const TensorsByName& tensors) {
  ASSIGN_OR_RETURN(const v1::CheckpointManifest manifest, ReadManifest(env, folder));
  RETURN_IF_ERROR(CheckFiles(folder, manifest));
  ASSIGN_OR_RETURN(v1::TrainingState state, ReadStateFile(env, folder));
  RETURN_IF_ERROR(CheckSameRun(state, run));
  if (state.step() != manifest.step() || state.step() < 0 || state.step() > run.total_steps()) {
    return absl::DataLossError(
        absl::StrCat("state says step ", state.step(), ", manifest ", manifest.step(), ", of ", run.total_steps()));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<safetensors::File> file,
                   safetensors::File::Open(absl::StrCat(folder, "/", TensorFile(rank))));
  RETURN_IF_ERROR(CheckTensors(*file, tensors));
  RETURN_IF_ERROR(CopyFrom(*file, tensors));
  return state;
}

}  // namespace

absl::StatusOr<TensorsByName> CopyToHost(const TensorsByName& tensors) {
  return CatchTorch([&] {
    at::NoGradGuard no_grad;
    TensorsByName copies;
    for (const auto& [name, tensor] : tensors) {
      copies.emplace_back(
          name, tensor.detach().to(at::kCPU, TypeInFile(tensor), /*non_blocking=*/false, /*copy=*/true).contiguous());
    }
    return copies;
  });
}

absl::StatusOr<v1::CheckpointManifest> WriteCheckpoint(Env& env, const std::string& folder, int rank,
                                                       const Checkpoint& checkpoint) {
  // What lay here stops being a checkpoint before the first of its files changes.
  RETURN_IF_ERROR(env.RemoveAll(absl::StrCat(folder, "/", kManifestFile)));
  RETURN_IF_ERROR(env.RemoveAll(folder));
  RETURN_IF_ERROR(env.MakeFolders(folder));
  RETURN_IF_ERROR(WriteTensors(absl::StrCat(folder, "/", TensorFile(rank)), checkpoint.tensors));
  RETURN_IF_ERROR(env.WriteFile(absl::StrCat(folder, "/", kStateFile), ToText(checkpoint.state)));

  v1::CheckpointManifest manifest;
  manifest.set_step(checkpoint.state.step());
  manifest.set_format_version(kCheckpointFormatVersion);
  *manifest.mutable_plan() = checkpoint.state.plan();
  for (const std::string& path : {TensorFile(rank), std::string(kStateFile)}) {
    v1::CheckpointShard& shard = *manifest.add_shards();
    shard.set_rank(rank);
    ASSIGN_OR_RETURN(*shard.mutable_file(), HashFile(folder, path));
  }
  RETURN_IF_ERROR(env.WriteFile(absl::StrCat(folder, "/", kManifestFile), ToText(manifest)));
  return manifest;
}

absl::StatusOr<v1::CheckpointManifest> ParseManifest(const std::string& text, const std::string& name) {
  v1::CheckpointManifest manifest;
  RETURN_IF_ERROR(FromText(text, name, manifest));
  if (manifest.format_version() != kCheckpointFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat(name, " has format version ", manifest.format_version(),
                                                      ", this trainer reads ", kCheckpointFormatVersion));
  }
  for (const v1::CheckpointShard& shard : manifest.shards()) {
    const std::string& path = shard.file().path();
    if (path.empty() || path.find('/') != path.npos || path.find('\0') != path.npos || path[0] == '.') {
      return absl::DataLossError(absl::StrCat(name, " names the file \"", path, "\", which is not one in its folder"));
    }
  }
  return manifest;
}

absl::StatusOr<v1::CheckpointManifest> ReadManifest(Env& env, const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/", kManifestFile);
  ASSIGN_OR_RETURN(const std::string text, env.ReadFile(path));
  return ParseManifest(text, path);
}

absl::StatusOr<v1::TrainingState> ReadState(Env& env, const std::string& folder) {
  absl::StatusOr<v1::TrainingState> state = ReadStateFile(env, folder);
  if (!state.ok()) return WithContext(state.status(), absl::StrCat("checkpoint ", folder, ": "));
  return state;
}

absl::StatusOr<v1::TrainingState> ReadCheckpoint(Env& env, const std::string& folder, int rank,
                                                 const v1::TrainingState& run, const TensorsByName& tensors) {
  absl::StatusOr<v1::TrainingState> state = ReadChecked(env, folder, rank, run, tensors);
  if (!state.ok()) return WithContext(state.status(), absl::StrCat("checkpoint ", folder, ": "));
  return state;
}

}  // namespace studio
