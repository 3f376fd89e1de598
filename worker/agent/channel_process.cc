#include "worker/agent/channel_process.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio::worker {

ChannelProcess::ChannelProcess(EventLoop& loop, std::unique_ptr<Process> process, KillWatch watch, Callbacks callbacks)
    : loop_(loop), process_(std::move(process)), watch_(std::move(watch)), callbacks_(std::move(callbacks)) {
  STUDIO_CHECK(process_->channel() >= 0 && process_->output() >= 0);
  loop_.Watch(process_->channel(), [this] { ReadChannel(); });
  loop_.Watch(process_->output(), [this] { ReadOutput(); });
  loop_.Watch(process_->ended(), [this] { OnEnd(); });
  watching_channel_ = watching_output_ = watching_end_ = true;
}

ChannelProcess::~ChannelProcess() {
  Unwatch(watching_channel_, process_->channel());
  Unwatch(watching_output_, process_->output());
  Unwatch(watching_end_, process_->ended());
}

void ChannelProcess::Unwatch(bool& watched, int fd) {
  if (watched) loop_.Unwatch(fd);
  watched = false;
}

void ChannelProcess::Order(const v1::TrainerDown& order) {
  const absl::StatusOr<std::string> frame = EncodeFrame(order);
  STUDIO_CHECK(frame.ok()) << frame.status().ToString();
  // A part of a frame would spoil the stream; orders are far smaller than a socket's buffer, so it is all or nothing.
  if (send(process_->channel(), frame->data(), frame->size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    spdlog::warn("process {} takes no orders: errno {}", pid(), errno);
  }
}

void ChannelProcess::HoldOutput(bool hold) {
  if (output_over_ || ended_ || hold != watching_output_) return;
  if (hold) {
    Unwatch(watching_output_, process_->output());
  } else {
    loop_.Watch(process_->output(), [this] { ReadOutput(); });
    watching_output_ = true;
  }
}

// True: something was read, and there may be more.
bool ChannelProcess::ReadChannel() {
  char bytes[64 << 10];
  const ssize_t got = read(process_->channel(), bytes, sizeof bytes);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) {
    Unwatch(watching_channel_, process_->channel());
    return false;
  }
  decoder_.Append({bytes, static_cast<size_t>(got)});
  while (true) {
    v1::TrainerUp up;
    const absl::StatusOr<bool> found = decoder_.Next(up);
    if (!found.ok()) {
      spdlog::error("process {}: {}", pid(), found.status().ToString());
      Unwatch(watching_channel_, process_->channel());
      Kill(SIGKILL);  // it cannot be understood any more
      return false;
    }
    if (!*found) return true;
    callbacks_.on_event(up);
  }
}

bool ChannelProcess::ReadOutput() {
  char bytes[64 << 10];
  const ssize_t got = read(process_->output(), bytes, sizeof bytes);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) {
    output_over_ = true;
    Unwatch(watching_output_, process_->output());
    return false;
  }
  callbacks_.on_output({bytes, static_cast<size_t>(got)});
  return true;
}

void ChannelProcess::OnEnd() {
  const std::optional<ProcessEnd> end = process_->Reap();
  if (!end) return;
  Unwatch(watching_end_, process_->ended());
  while (watching_channel_ && ReadChannel()) {
  }
  while (!output_over_ && ReadOutput()) {
  }
  Unwatch(watching_channel_, process_->channel());
  Unwatch(watching_output_, process_->output());
  ended_ = true;
  callbacks_.on_end(*end);
}

absl::StatusOr<std::unique_ptr<RankProcess>> ChannelLauncher::Launch(LaunchSpec spec,
                                                                     RankProcess::Callbacks callbacks) {
  spec.output = LaunchSpec::Output::kPipeBoth;
  spec.channel = true;
  KillWatch watch(env_);
  ASSIGN_OR_RETURN(std::unique_ptr<Process> process, launcher_.Launch(spec));
  return std::make_unique<ChannelProcess>(loop_, std::move(process), std::move(watch), std::move(callbacks));
}

}  // namespace studio::worker
