// A fine-tuning job whose micro batch is more than its worker may hold: the real trainer runs out of memory, is started
// anew with half the micro batch, and ends where an unlimited worker ends.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "common/status/testing.h"
#include "tests/e2e/tiny_model.h"
#include "tests/integration/cluster.h"

namespace studio {
namespace {

using testing::Contains;
using testing::HasSubstr;

// Of anonymous memory: 1,024 rows take more than 740 MiB in the trainer, 512 rows less than 580 over three steps.
constexpr int kLimitKib = 660 << 10;

constexpr char kJob[] = R"(
name: "too-large"
dataset { train_dataframe: "rows.jsonl" validation_size: 0 }
tokenizer { max_length: 256 }
architecture { llm_backbone: "model" pretrained: false }
training { learning_rate: 0.01 batch_size: 1024 max_steps: 3 warmup_ratio: 0 lora_r: 4 }
prediction { samples: false }
environment { mixed_precision_dtype: FLOAT32 number_of_workers: 1 }
)";

// `limit_kib`: of the worker and its trainers. 0: none.
absl::StatusOr<v1::JobRecord> RunJob(const std::string& name, int limit_kib) {
  const std::string folder = absl::StrCat(testing::TempDir(), "/", name);
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  RETURN_IF_ERROR(WriteTinyModel(folder + "/model"));
  RETURN_IF_ERROR(WriteRows(folder + "/rows.jsonl", 12'000));
  RETURN_IF_ERROR(WriteText(folder + "/job.pb.txt", kJob));
  Cluster::Binaries binaries;
  binaries.trainer = "worker/trainer/studio-trainer";
  binaries.dataprep = "worker/data/studio-dataprep";
  Cluster cluster(folder, binaries);
  RETURN_IF_ERROR(cluster.StartController());
  // RLIMIT_DATA rather than RLIMIT_AS: LibTorch maps more than this before it has trained anything.
  std::vector<std::string> limited = {"/bin/sh", "-c", absl::StrCat("ulimit -d ", limit_kib, " && exec \"$@\""), "-"};
  RETURN_IF_ERROR(cluster.StartWorker(limit_kib > 0 ? limited : std::vector<std::string>{}));
  ASSIGN_OR_RETURN(const std::string id, cluster.SubmitFile(folder + "/job.pb.txt"));
  return cluster.AwaitState(id, v1::SUCCEEDED);
}

TEST(RealOom, ACappedJobEndsWhereAnUncappedOneEnds) {
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord capped, RunJob("capped", kLimitKib));
  ASSERT_EQ(capped.attempts_size(), 2) << capped.ShortDebugString();
  const v1::Attempt& first = capped.attempts(0);
  const v1::Attempt& second = capped.attempts(1);
  EXPECT_EQ(first.reason(), v1::HOST_OOM) << first.ShortDebugString();
  EXPECT_THAT(first.message(), HasSubstr("set a smaller training.batch_size"));
  EXPECT_EQ(first.plan().micro(), 1024);
  EXPECT_EQ(second.plan().micro(), 512);
  EXPECT_EQ(second.plan().accumulation(), 2);
  EXPECT_EQ(second.plan().global(), first.plan().global());
  EXPECT_EQ(second.plan().cause(), "HOST_OOM");
  EXPECT_THAT(capped.notes(), Contains(HasSubstr("micro batch 512 instead of 1024")));

  ASSERT_OK_AND_ASSIGN(const v1::JobRecord uncapped, RunJob("uncapped", 0));
  EXPECT_EQ(uncapped.attempts_size(), 1) << "the limit alone made the first attempt fail";
  EXPECT_EQ(capped.progress().step(), 3);
  EXPECT_GT(uncapped.progress().utilization(), 0);
  EXPECT_LE(uncapped.progress().utilization(), 1);
  EXPECT_EQ(capped.progress().tokens_seen(), uncapped.progress().tokens_seen());
  // The same global batches, summed in another order.
  EXPECT_NEAR(capped.progress().loss(), uncapped.progress().loss(), 1e-5 * std::abs(uncapped.progress().loss()));
}

}  // namespace
}  // namespace studio
