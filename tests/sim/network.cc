#include "tests/sim/network.h"

#include <algorithm>
#include <utility>

namespace studio::sim {

class SimStream : public controller::StreamSink, public std::enable_shared_from_this<SimStream> {
 public:
  explicit SimStream(SimLink& link)
      : engine_(link.engine_),
        history_(link.history_),
        worker_(link.worker_),
        cable_(link.cable_),
        agent_(link.agent_),
        controller_(link.controller_),
        link_(&link),
        agent_life_(link.agent_.life),
        controller_life_(link.controller_.process().life) {}

  void Dial() {
    Up([](SimStream& self) {
      if (!self.Serves()) return self.CloseAtAgent(absl::UnavailableError("connection refused"));
      self.number_ = self.controller_.loop().OpenStream(self.shared_from_this());
    });
  }
  void SendUp(v1::WorkerUp message) {
    const bool twice = cable_.duplicates && message.sequence() > 0;
    for (int i = 0; i < (twice ? 2 : 1); ++i) {
      Up([message](SimStream& self) {
        if (!self.Serves() || self.number_ == 0) return;
        self.history_.Heard(self.worker_);
        self.controller_.loop().OnStreamMessage(self.number_, message);
      });
    }
  }
  void HangUp() {
    link_ = nullptr;
    Up([](SimStream& self) { self.CloseAtController(); });
  }
  void Abandon(bool silently) {
    link_ = nullptr;
    if (!silently) Up([](SimStream& self) { self.CloseAtController(); });
  }
  void Break() {
    broken_ = true;
    engine_.After(cable_.random.Ms(0, 3000), nullptr,
                  [self = shared_from_this()] { self->CloseAtAgent(absl::UnavailableError("the connection broke")); });
    // Now and then the controller learns it only by silence.
    if (cable_.random.Chance(20)) return;
    engine_.After(cable_.random.Ms(0, 8000), nullptr, [self = shared_from_this()] { self->CloseAtController(); });
  }

  // StreamSink
  void Send(v1::WorkerDown message) override {
    history_.Told(worker_, message);
    const bool twice = cable_.duplicates && message.sequence() > 0;
    for (int i = 0; i < (twice ? 2 : 1); ++i) {
      Down([message](SimStream& self) {
        if (self.LinkLives()) self.link_->callbacks_.on_message(message);
      });
    }
  }
  void Close(absl::Status status) override {
    Down([status](SimStream& self) { self.CloseAtAgent(status); });
  }

 private:
  bool Serves() const { return controller_.process().alive && controller_.process().life == controller_life_; }
  bool LinkLives() const {
    return link_ != nullptr && agent_.alive && agent_.life == agent_life_ && link_->stream_.get() == this;
  }
  void CloseAtAgent(const absl::Status& status) {
    if (!LinkLives()) return;
    engine_.At(engine_.now(), &agent_, [self = shared_from_this(), status] {
      if (!self->LinkLives()) return;
      self->link_->stream_ = nullptr;
      SimLink* link = std::exchange(self->link_, nullptr);
      link->callbacks_.on_closed(status);
    });
  }
  void CloseAtController() {
    if (!Serves() || number_ == 0) return;
    controller_.Run([self = shared_from_this()] { self->controller_.loop().OnStreamClosed(self->number_); });
  }

  using Arrival = std::function<void(SimStream&)>;
  void Up(Arrival arrival) {
    up_ready_ = std::max(up_ready_, engine_.now() + cable_.Delay());
    ArriveUp(up_ready_, std::move(arrival));
  }
  void ArriveUp(absl::Time at, Arrival arrival) {
    engine_.At(at, nullptr, [self = shared_from_this(), arrival = std::move(arrival)] {
      if (self->broken_) return;
      if (self->engine_.now() < self->cable_.up_blocked_until) {
        self->up_ready_ = std::max(self->up_ready_, self->cable_.up_blocked_until);
        return self->ArriveUp(self->cable_.up_blocked_until, arrival);
      }
      if (!self->controller_.process().alive) return arrival(*self);
      self->controller_.Run([self, arrival] { arrival(*self); });
    });
  }
  void Down(Arrival arrival) {
    down_ready_ = std::max(down_ready_, engine_.now() + cable_.Delay());
    ArriveDown(down_ready_, std::move(arrival));
  }
  void ArriveDown(absl::Time at, Arrival arrival) {
    engine_.At(at, nullptr, [self = shared_from_this(), arrival = std::move(arrival)] {
      if (self->broken_) return;
      if (self->engine_.now() < self->cable_.down_blocked_until) {
        self->down_ready_ = std::max(self->down_ready_, self->cable_.down_blocked_until);
        return self->ArriveDown(self->cable_.down_blocked_until, arrival);
      }
      self->engine_.At(self->engine_.now(), &self->agent_, [self, arrival] { arrival(*self); });
    });
  }

  Engine& engine_;
  History& history_;
  const std::string worker_;
  Cable& cable_;
  SimProcess& agent_;
  ControllerHost& controller_;
  SimLink* link_;
  const int64_t agent_life_;
  const int64_t controller_life_;
  int64_t number_ = 0;
  bool broken_ = false;
  absl::Time up_ready_ = absl::InfinitePast();
  absl::Time down_ready_ = absl::InfinitePast();
};

SimLink::SimLink(Engine& engine, History& history, std::string worker, Cable& cable, SimProcess& agent,
                 ControllerHost& controller, std::function<void(const v1::WorkerUp&)> on_send, Callbacks callbacks)
    : engine_(engine),
      history_(history),
      worker_(std::move(worker)),
      cable_(cable),
      agent_(agent),
      controller_(controller),
      on_send_(std::move(on_send)),
      callbacks_(std::move(callbacks)) {}

SimLink::~SimLink() { Abandon(/*silently=*/true); }

void SimLink::Dial() {
  HangUp();
  stream_ = std::make_shared<SimStream>(*this);
  stream_->Dial();
}

void SimLink::Send(v1::WorkerUp message) {
  on_send_(message);
  if (stream_ != nullptr) stream_->SendUp(std::move(message));
}

void SimLink::HangUp() {
  if (const auto stream = std::exchange(stream_, nullptr); stream != nullptr) stream->HangUp();
}

void SimLink::Break() {
  if (stream_ != nullptr) stream_->Break();
}

void SimLink::Abandon(bool silently) {
  if (const auto stream = std::exchange(stream_, nullptr); stream != nullptr) stream->Abandon(silently);
}

}  // namespace studio::sim
