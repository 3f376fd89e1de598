// Whether this machine computes what it should, and how fast: for `studio-trainer --verify` and a report that a person
// can send. Trains a tiny model for a few steps and compares its losses with stored ones, looks whether attention sees
// the future (LibTorch before 2.13 does on Metal, pytorch#195910), and measures a matrix product and a copy.
//
//   VerifyReport report = Verify(device, folder);
//   std::cout << report.Text();
//   return report.passed() ? 0 : kExitCrash;
//
// Takes seconds. Threading: one at a time, as it uses the device.
#pragma once

#include <c10/core/Device.h>

#include <string>
#include <vector>

namespace studio {

struct VerifyCheck {
  std::string name;
  bool passed = false;
  // The figures, or what went wrong.
  std::string detail;
};

struct VerifyReport {
  std::vector<VerifyCheck> checks;

  bool passed() const;
  // "PASS  name: detail" a line, and a last line with the verdict.
  std::string Text() const;
};

// `folder` is there and may be written to: the tiny model's config.json. Never throws: what fails is in the report.
VerifyReport Verify(at::Device device, const std::string& folder);

}  // namespace studio
