#include "worker/trainer/data_feed/batch_dump.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace studio {
namespace {

std::vector<int64_t> Numbers(const at::Tensor& tensor) {
  const at::Tensor here = tensor.cpu().contiguous();
  return {here.data_ptr<int64_t>(), here.data_ptr<int64_t>() + here.numel()};
}

}  // namespace

absl::StatusOr<BatchDump> BatchDump::Create(const std::string& path) {
  std::ofstream out(path);
  if (!out) return absl::InvalidArgumentError(absl::StrCat("--dump-batches ", path, ": cannot be written"));
  return BatchDump(std::move(out));
}

void BatchDump::Add(int64_t step, double learning_rate, const std::vector<Batch>& micro_batches) {
  nlohmann::json line = {{"step", step}, {"learning_rate", learning_rate}, {"micro_batches", nlohmann::json::array()}};
  for (const Batch& batch : micro_batches) {
    line["micro_batches"].push_back({{"tokens", Numbers(batch.tokens)},
                                     {"labels", Numbers(batch.labels)},
                                     {"positions", Numbers(batch.positions)},
                                     {"cu_seqlens", batch.cu_seqlens}});
  }
  out_ << line.dump() << std::endl;
}

}  // namespace studio
