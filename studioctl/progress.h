// A job on its way, for a person: one bar redrawn in place on a terminal, plain lines elsewhere.
//
//   ProgressView view(console);
//   for each WatchJobResponse: view.Show(response);
//   view.Finish();
//
//   j7 RUNNING [=========>          ] 42/100  loss 2.913  1,234 tokens/s  1.9 GiB  ETA 1m05s
//
// Events (attempts, evaluations, notes) are lines of their own above the bar. One thread.
#pragma once

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "proto/studio/v1/controller.pb.h"
#include "studioctl/console.h"

namespace studio::ctl {

// The bar alone, in at most `width` columns: first the bar shrinks, then memory, speed and ETA go.
std::string ProgressLine(const v1::JobRecord& record, int width);

class ProgressView {
 public:
  // Elsewhere than on a terminal, points closer than this to the last one printed (by their own time) are passed over.
  explicit ProgressView(Console& console, absl::Duration plain_interval = absl::Seconds(10))
      : console_(console), plain_interval_(plain_interval) {}

  void Show(const v1::WatchJobResponse& response);
  // A line above the bar.
  void Say(const std::string& line);
  // Leaves the cursor on a fresh line.
  void Finish();

 private:
  void ShowEvents(const v1::JobRecord& record);
  void ShowPoint(const v1::JobRecord& record, const v1::Progress& point, bool last);
  void Redraw();

  Console& console_;
  const absl::Duration plain_interval_;
  std::string bar_;
  std::string state_;
  std::optional<absl::Time> last_printed_;
  int64_t printed_step_ = -1;
  int evaluations_ = 0;
  int notes_ = 0;
  int ended_attempts_ = 0;
};

}  // namespace studio::ctl
