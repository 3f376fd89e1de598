// What a rank says, in words: on the terminal of a trainer that runs alone, and in the log of one under an agent.
#pragma once

#include <string>

#include "proto/studio/v1/trainer.pb.h"

namespace studio {

// One line for one event (a sample and the rows that were dropped take more). Empty where there is nothing to say.
std::string DescribeEvent(const v1::TrainerUp& event);

}  // namespace studio
