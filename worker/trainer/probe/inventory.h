// What this machine is and has, for `studio-trainer --probe`: the agent learns of devices from this child process and
// never makes a CUDA context of its own.
#pragma once

#include "proto/studio/v1/state.pb.h"

namespace studio {

// Throws what LibTorch throws, where a device is there but does not work.
v1::Inventory TakeInventory();

}  // namespace studio
