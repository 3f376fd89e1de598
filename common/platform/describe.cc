#include "common/platform/describe.h"

#include <google/protobuf/util/json_util.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/platform/asks.h"
#include "common/platform/matrix.h"
#include "common/status/check.h"

namespace studio {
namespace {

const char* NameOf(Axis axis) {
  switch (axis) {
    case Axis::kAttention:
      return "attention";
    case Axis::kPrecision:
      return "precision";
    case Axis::kOptimizer:
      return "optimizer";
    case Axis::kDevices:
      break;
  }
  return "devices";
}

std::string CellText(const Cell& cell) {
  switch (cell.verdict) {
    case Verdict::kWorks:
      return *cell.feature == '\0' ? "yes"
                                   : absl::StrCat("yes; `auto` takes ", cell.instead, " without ", cell.feature);
    case Verdict::kWhereFound:
      return absl::StrCat("with ", cell.feature, ", else ", cell.instead);
    case Verdict::kNever:
      break;
  }
  return absl::StrCat("never: ", cell.instead);
}

std::string GiB(int64_t bytes) { return absl::StrFormat("%.1f GiB", static_cast<double>(bytes) / (1 << 30)); }

std::string DeviceText(const v1::Device& device) {
  std::string text = absl::StrCat(device.id(), "  ", device.name(), ", ", GiB(device.total_memory_bytes()), ", ",
                                  GiB(device.allocatable_memory_bytes()), " allocatable, ",
                                  GiB(device.used_memory_bytes()), " in use");
  if (!device.compute_capability().empty())
    absl::StrAppend(&text, ", compute capability ", device.compute_capability());
  if (!device.driver().empty()) absl::StrAppend(&text, ", driver for CUDA ", device.driver());
  if (!device.mig_slice().empty()) absl::StrAppend(&text, ", MIG slice ", device.mig_slice());
  if (device.unified_memory()) absl::StrAppend(&text, ", unified memory");
  return text;
}

}  // namespace

std::string MatrixAsMarkdown() {
  std::string text = "| axis | choice |";
  for (const Platform& platform : kPlatforms) absl::StrAppend(&text, " ", NameOf(platform), " |");
  absl::StrAppend(&text, "\n|---|---|---|---|---|---|---|\n");
  for (const Capability& row : CapabilityMatrix()) {
    absl::StrAppend(&text, "| ", NameOf(row.axis), " | `", row.choice, "` |");
    for (const Cell& cell : row.cells) absl::StrAppend(&text, " ", CellText(cell), " |");
    absl::StrAppend(&text, "\n");
  }
  return text;
}

std::string InventoryAsJson(const v1::Inventory& inventory) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.add_whitespace = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(inventory, &json, options);
  STUDIO_CHECK(status.ok()) << status.ToString();
  return json;
}

std::string DescribeInventory(const v1::Inventory& inventory) {
  std::string text;
  const auto add = [&](const std::string& name, const std::string& value) {
    absl::StrAppend(&text, absl::StrFormat("%-10s  ", name), value, "\n");
  };
  add("host", inventory.hostname());
  add("arch", absl::StrCat(v1::Arch_Name(inventory.arch()), " (", inventory.machine(), ")"));
  add("os", inventory.os());
  add("cores", absl::StrCat(inventory.cpu_cores()));
  add("memory", GiB(inventory.host_memory_bytes()));
  add("backend", v1::Backend_Name(inventory.backend()));
  for (const v1::Device& device : inventory.devices()) add("device", DeviceText(device));
  add("trainer", absl::StrCat(inventory.trainer_version(), ", LibTorch ", inventory.libtorch_version()));
  add("features", absl::StrJoin(inventory.features(), ", "));
  for (const std::string& note : inventory.notes()) add("note", note);
  for (const Capability& row : CapabilityMatrix()) {
    const Asks asks{.explicitly = {{NameOf(row.axis), row.axis, row.choice}}, .backend = inventory.backend()};
    const Cell* const cell = CellAt(row.axis, row.choice, {inventory.backend(), inventory.arch()});
    if (cell == nullptr) continue;
    add(NameOf(row.axis), absl::StrCat(row.choice, ": ", WhyNot(asks, inventory).empty() ? "yes" : CellText(*cell)));
  }
  return text;
}

}  // namespace studio
