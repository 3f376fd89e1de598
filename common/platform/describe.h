// The matrix and a machine in words: docs/platforms.md's table, and what `studio-worker --probe` prints. Pure.
#pragma once

#include <string>

#include "proto/studio/v1/state.pb.h"

namespace studio {

// A Markdown table, a row for each choice, a column for each platform.
std::string MatrixAsMarkdown();

// What the machine is and has, then what of the matrix works on it; one fact a line.
std::string DescribeInventory(const v1::Inventory& inventory);

// protobuf's JSON with the fields' own names, as `studioctl workers -o json` has it.
std::string InventoryAsJson(const v1::Inventory& inventory);

}  // namespace studio
