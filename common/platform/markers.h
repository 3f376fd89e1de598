// Names of the hardware that a test needs: Bazel tags, by which `make test TAGS=…` finds the tests, and run-time skips.
//
//   TEST(Card, HasAName) {
//     SKIP_UNLESS("requires_cuda", TakeInventory());      // in worker/trainer/probe: "needs CUDA; this machine is …"
//
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "proto/studio/v1/state.pb.h"

namespace studio {

// arm64_cuda, arm64_mps, x86_64, requires_gpu, requires_cuda, requires_mps. What the machine lacks for the marker, in
// words; empty: nothing. An unknown marker is lacking everywhere, so that a misspelt one is seen.
std::string WhatLacks(std::string_view marker, const v1::Inventory& inventory);

}  // namespace studio

// For GoogleTest, which prints the reason and counts the skip.
#define SKIP_UNLESS(marker, inventory) \
  if (const std::string lacks_ = ::studio::WhatLacks(marker, inventory); !lacks_.empty()) GTEST_SKIP() << lacks_
