// The committed reference is what job.proto says today, and its example is a job that is accepted.
#include <fstream>
#include <iterator>
#include <string>

#include "common/job/job_rules.h"
#include "common/job/job_text.h"
#include "common/status/testing.h"

namespace studio {
namespace {

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST(JobReference, IsUpToDate) {
  EXPECT_TRUE(Read("docs/job_reference.md") == Read("tools/job_reference/job_reference.md"))
      << "job.proto changed: run tools/job_reference/update.sh and commit docs/job_reference.md";
}

TEST(JobReference, ItsExampleIsAccepted) {
  const std::string page = Read("docs/job_reference.md");
  const std::string fence = "```textproto\n";
  const size_t start = page.find(fence);
  ASSERT_NE(start, std::string::npos);
  const size_t end = page.find("```", start + fence.size());
  ASSERT_OK_AND_ASSIGN(const v1::Job job,
                       ParseJobText(page.substr(start + fence.size(), end - start - fence.size()), "example"));
  EXPECT_OK(Validate(job));
}

TEST(JobReference, HasEveryFieldWithAComment) {
  const std::string page = Read("docs/job_reference.md");
  for (const char* row : {"| `learning_rate` | number | `0.0001` | above 0, at most 10 | Peak learning rate.",
                          "| `train_dataframe` | path or URI | required |", "- `COSINE`", "## retry"}) {
    EXPECT_THAT(page, testing::HasSubstr(row));
  }
}

}  // namespace
}  // namespace studio
