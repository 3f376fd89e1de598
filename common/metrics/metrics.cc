#include "common/metrics/metrics.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace studio {
namespace {

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return absl::StrCat(value);
}

}  // namespace

void Histogram::Observe(double seconds) {
  for (size_t i = 0; i < std::size(kSecondsBuckets); ++i) counts_[i] += seconds <= kSecondsBuckets[i] ? 1 : 0;
  ++count_;
  sum_ += seconds;
}

void MetricsText::Head(const std::string& name, const std::string& help, const std::string& type) {
  if (name == last_name_) return;
  last_name_ = name;
  absl::StrAppend(&text_, "# HELP ", name, " ", absl::StrReplaceAll(help, {{"\\", "\\\\"}, {"\n", "\\n"}}), "\n# TYPE ",
                  name, " ", type, "\n");
}

void MetricsText::Line(const std::string& name, const Labels& labels, const std::string& value) {
  text_ += name;
  const char* before = "{";
  for (const auto& [label, text] : labels) {
    absl::StrAppend(&text_, before, label, "=\"",
                    absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}), "\"");
    before = ",";
  }
  absl::StrAppend(&text_, labels.empty() ? " " : "} ", value, "\n");
}

void MetricsText::Gauge(const std::string& name, const std::string& help, const Labels& labels, double value) {
  Head(name, help, "gauge");
  Line(name, labels, Number(value));
}

void MetricsText::Counter(const std::string& name, const std::string& help, const Labels& labels, int64_t value) {
  Head(name, help, "counter");
  Line(name, labels, absl::StrCat(value));
}

void MetricsText::Add(const std::string& name, const std::string& help, const Histogram& histogram) {
  Head(name, help, "histogram");
  for (size_t i = 0; i < std::size(kSecondsBuckets); ++i) {
    Line(name + "_bucket", {{"le", Number(kSecondsBuckets[i])}}, absl::StrCat(histogram.counts()[i]));
  }
  Line(name + "_bucket", {{"le", "+Inf"}}, absl::StrCat(histogram.count()));
  Line(name + "_sum", {}, Number(histogram.sum()));
  Line(name + "_count", {}, absl::StrCat(histogram.count()));
}

}  // namespace studio
