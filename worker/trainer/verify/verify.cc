#include "worker/trainer/verify/verify.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/verify/numerics.h"
#include "worker/trainer/verify/speed.h"

namespace studio {
namespace {

VerifyCheck AsCheck(const std::string& name, const absl::StatusOr<std::string>& outcome) {
  return {name, outcome.ok(), outcome.ok() ? *outcome : std::string(outcome.status().message())};
}

}  // namespace

bool VerifyReport::passed() const {
  return !checks.empty() &&
         std::all_of(checks.begin(), checks.end(), [](const VerifyCheck& check) { return check.passed; });
}

std::string VerifyReport::Text() const {
  std::string text;
  for (const VerifyCheck& check : checks) {
    absl::StrAppend(&text, check.passed ? "PASS  " : "FAIL  ", check.name, ": ", check.detail, "\n");
  }
  return absl::StrCat(text, passed() ? "this machine passes" : "this machine FAILS", "\n");
}

VerifyReport Verify(at::Device device, const std::string& folder) {
  VerifyReport report;
  report.checks.push_back(AsCheck("training in float32", CheckTraining(device, at::kFloat, folder)));
  if (!device.is_mps()) {
    report.checks.push_back(AsCheck("training in bfloat16", CheckTraining(device, at::kBFloat16, folder)));
  }
  report.checks.push_back(AsCheck("causality", CheckCausality(device, folder)));
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    report.checks.push_back(AsCheck(absl::StrCat("matrix product in ", type == at::kFloat ? "float32" : "bfloat16"),
                                    MeasureProduct(device, type)));
  }
  report.checks.push_back(AsCheck("memory", MeasureCopy(device)));
  return report;
}

}  // namespace studio
