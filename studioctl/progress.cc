#include "studioctl/progress.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "studioctl/exit_codes.h"
#include "studioctl/print.h"
#include "studioctl/text.h"

namespace studio::ctl {
namespace {

// What stands right of the bar, the most important first.
std::vector<std::string> Figures(const v1::Progress& progress) {
  std::vector<std::string> figures;
  if (progress.step() > 0) figures.push_back(absl::StrFormat("loss %.3f", progress.loss()));
  if (progress.eta_seconds() > 0)
    figures.push_back(absl::StrCat("ETA ", HumanDuration(absl::Seconds(progress.eta_seconds()))));
  if (progress.tokens_per_second() > 0)
    figures.push_back(absl::StrCat(HumanCount(progress.tokens_per_second()), " tokens/s"));
  if (progress.peak_memory_bytes() > 0)
    figures.push_back(HumanBytes(static_cast<double>(progress.peak_memory_bytes())));
  return figures;
}

// Steps once there are some, rows while they are being prepared.
std::pair<int64_t, int64_t> DoneOf(const v1::Progress& progress) {
  if (progress.total_steps() > 0) return {progress.step(), progress.total_steps()};
  return {progress.prepared_rows(), progress.total_rows()};
}

std::string Bar(int64_t done, int64_t total, int width) {
  const int inner = width - 2;
  const int filled = static_cast<int>(std::clamp<int64_t>(done, 0, total) * inner / total);
  std::string bar(filled, '=');
  if (filled < inner) bar += '>';
  bar.append(std::max<int>(0, inner - static_cast<int>(bar.size())), ' ');
  return absl::StrCat("[", bar, "]");
}

std::string PlainLine(const v1::JobRecord& record, const v1::Progress& point) {
  const auto [done, total] = DoneOf(point);
  std::string line = absl::StrCat(record.id(), point.total_steps() > 0 ? " step " : " row ", done);
  if (total > 0) absl::StrAppend(&line, "/", total);
  for (const std::string& figure : Figures(point)) absl::StrAppend(&line, "  ", figure);
  return line;
}

}  // namespace

std::string ProgressLine(const v1::JobRecord& record, int width) {
  const auto [done, total] = DoneOf(record.progress());
  const std::string head = absl::StrCat(record.id(), " ", StateText(record));
  const std::string count = total > 0 ? absl::StrCat(" ", done, "/", total) : "";
  std::vector<std::string> figures = Figures(record.progress());
  // One column stays free: some terminals wrap when the last one is written.
  int left = width - 1 - DisplayWidth(head) - DisplayWidth(count);
  std::vector<std::string> shown;
  for (const std::string& figure : figures) {
    const int needed = DisplayWidth(figure) + 2;
    if (needed > left) break;
    shown.push_back(figure);
    left -= needed;
  }
  std::string line = head;
  constexpr int kLeastBar = 8, kMostBar = 32;
  if (total > 0 && left >= kLeastBar + 1) absl::StrAppend(&line, " ", Bar(done, total, std::min(left - 1, kMostBar)));
  line += count;
  for (const std::string& figure : shown) absl::StrAppend(&line, "  ", figure);
  return Fitted(line, width - 1);
}

void ProgressView::Redraw() {
  if (console_.is_terminal && !bar_.empty()) console_.out << "\r" << bar_ << "\x1b[K" << std::flush;
}

void ProgressView::Say(const std::string& line) {
  // The bar goes, the line takes its place, the bar comes back below.
  if (console_.is_terminal && !bar_.empty()) console_.out << "\r\x1b[K";
  console_.out << line << std::endl;
  Redraw();
}

void ProgressView::Finish() {
  if (console_.is_terminal && !bar_.empty()) console_.out << std::endl;
  bar_.clear();
}

void ProgressView::ShowEvents(const v1::JobRecord& record) {
  for (; ended_attempts_ < record.attempts_size(); ++ended_attempts_) {
    const v1::Attempt& attempt = record.attempts(ended_attempts_);
    if (attempt.state() < v1::ATTEMPT_SUCCEEDED) break;
    if (attempt.state() == v1::ATTEMPT_SUCCEEDED || IsTerminal(record.state())) continue;
    std::string line = absl::StrCat("attempt ", attempt.number(), " ended: ", AttemptStateText(attempt.state()));
    if (attempt.reason() != v1::REASON_UNSPECIFIED)
      absl::StrAppend(&line, " (", v1::Reason_Name(attempt.reason()), ")");
    if (!attempt.message().empty()) absl::StrAppend(&line, ": ", Printable(attempt.message()));
    if (record.checkpoint().step() > 0) absl::StrAppend(&line, "; goes on from step ", record.checkpoint().step());
    Say(line);
  }
  for (; evaluations_ < record.evaluations_size(); ++evaluations_) {
    const v1::Evaluation& evaluation = record.evaluations(evaluations_);
    Say(absl::StrFormat("step %d: held-out loss %.4f", evaluation.step(), evaluation.loss()));
  }
  for (; notes_ < record.notes_size(); ++notes_) Say(absl::StrCat("note: ", Printable(record.notes(notes_))));
}

void ProgressView::ShowPoint(const v1::JobRecord& record, const v1::Progress& point, bool last) {
  if (point.step() == printed_step_ && point.total_rows() == 0) return;
  const absl::Time time = FromTimestamp(point.time());
  if (!last && last_printed_ && time - *last_printed_ < plain_interval_) return;
  last_printed_ = time;
  printed_step_ = point.step();
  Say(PlainLine(record, point));
}

void ProgressView::Show(const v1::WatchJobResponse& response) {
  const v1::JobRecord& record = response.record();
  const bool ended = IsTerminal(record.state());
  if (console_.is_terminal) {
    v1::JobRecord now = record;
    if (!response.points().empty() && response.points().rbegin()->step() >= record.progress().step()) {
      *now.mutable_progress() = *response.points().rbegin();
    }
    bar_ = ProgressLine(now, console_.width());
    ShowEvents(record);
    Redraw();
    return;
  }
  std::string state = StateText(record);
  if (record.state() == v1::PENDING && !record.message().empty()) {
    absl::StrAppend(&state, ": ", Printable(record.message()));
  }
  if (state != state_ && !ended) Say(absl::StrCat(record.id(), " ", state));
  state_ = state;
  for (const v1::Progress& point : response.points()) ShowPoint(record, point, false);
  if (ended && record.progress().step() > 0) ShowPoint(record, record.progress(), true);
  ShowEvents(record);
}

}  // namespace studio::ctl
