// What follows the end of an attempt: another attempt, and with which batch plan, or the job's failure.
// One rule per reason; docs/failure_model.md shows them as a table.
//
//   if (ShouldRetry(record)) { next.plan = NextPlan(record); … }
//
// Pure functions of the record, whose job has its defaults filled; no threads, no ownership.
#pragma once

#include "proto/studio/v1/state.pb.h"

namespace studio {

// Whether the job goes on after its last attempt, which has ended as FAILED, PREEMPTED or FENCED.
// A reason's budget counts all attempts of the job that ended for it.
bool ShouldRetry(const v1::JobRecord& record);

// The batch plan of the job's next attempt: as the job says at first (or as the checkpoint that it starts from was
// written with), then as the last attempt's. After running out of memory (which ShouldRetry allows once) the micro
// batch is halved and the accumulation doubled, so that the global batch, the steps and the schedule stay what they
// were.
v1::BatchPlan NextPlan(const v1::JobRecord& record);

// Out of memory on the device or the host.
bool IsOutOfMemory(v1::Reason reason);

}  // namespace studio
