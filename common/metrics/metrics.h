// Counts and times for Prometheus, in its text format 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/).
//
//   Histogram commits;
//   commits.Observe(0.0021);
//   MetricsText text;
//   text.Gauge("studio_jobs", "Jobs by state.", {{"state", "RUNNING"}}, 3);
//   text.Counter("studio_fences_total", "Attempts given up because their fence passed.", {}, 1);
//   text.Add("studio_commit_seconds", "From Commit to durable.", commits);
//   return std::move(text).Take();
//
// Values of one name follow each other, as the format wants. Not thread-safe: whoever counts also prints.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <vector>

namespace studio {

// From half a millisecond to three hours, in seconds.
inline constexpr double kSecondsBuckets[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25, 0.5,
                                             1,      2.5,   5,      10,    30,   60,    300,  1800, 10800};

class Histogram {
 public:
  void Observe(double seconds);

  // Values of at most kSecondsBuckets[i], and in all.
  const std::vector<int64_t>& counts() const { return counts_; }
  int64_t count() const { return count_; }
  double sum() const { return sum_; }

 private:
  std::vector<int64_t> counts_ = std::vector<int64_t>(std::size(kSecondsBuckets), 0);
  int64_t count_ = 0;
  double sum_ = 0;
};

class MetricsText {
 public:
  using Labels = std::map<std::string, std::string>;

  // `name` and the labels' names are our own and plain; labels' values may be anything.
  void Gauge(const std::string& name, const std::string& help, const Labels& labels, double value);
  // By the convention its name ends in _total.
  void Counter(const std::string& name, const std::string& help, const Labels& labels, int64_t value);
  void Add(const std::string& name, const std::string& help, const Histogram& histogram);

  std::string Take() && { return std::move(text_); }

 private:
  void Head(const std::string& name, const std::string& help, const std::string& type);
  void Line(const std::string& name, const Labels& labels, const std::string& value);

  std::string text_;
  std::string last_name_;
};

}  // namespace studio
