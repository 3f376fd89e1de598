// How an attempt's record names it. Pure.
#pragma once

#include "common/memory/out_of_memory.h"
#include "proto/studio/v1/state.pb.h"

namespace studio {

// DEVICE_OOM or HOST_OOM by whose memory was short, whoever held it; REASON_UNSPECIFIED for kNone.
v1::Reason ReasonOf(Oom oom);

}  // namespace studio
