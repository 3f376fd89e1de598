// What a rank says while it trains, and what it is told. Two ends exist: an agent over a socketpair (agent_link.h), and
// a person at a terminal (console_link.h).
//
//   link.Send(event);
//   const Orders orders = link.TakeOrders();   // between steps
//   if (orders.stop) …
//
// Send and TakeOrders are safe from any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "proto/studio/v1/trainer.pb.h"

namespace studio {

// What was asked since the last time.
struct Orders {
  // Checkpoint (but for `discard`) and end.
  bool stop = false;
  bool discard = false;
  // Checkpoint and go on.
  bool checkpoint = false;
  // The newest checkpoint that counts.
  std::optional<int64_t> recorded_step;
};

class RankLink {
 public:
  virtual ~RankLink() = default;
  // Numbers the event and passes it on in order. Progress may be dropped where the other end is slow; nothing else is.
  virtual void Send(v1::TrainerUp event) = 0;
  virtual Orders TakeOrders() = 0;
};

inline v1::TrainerUp StateEvent(v1::AttemptState state) {
  v1::TrainerUp event;
  event.set_state(state);
  return event;
}

inline v1::TrainerUp NoteEvent(std::string note) {
  v1::TrainerUp event;
  event.set_note(std::move(note));
  return event;
}

}  // namespace studio
