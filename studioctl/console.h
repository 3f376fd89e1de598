// What a command sees of the process that it runs in: streams, a terminal, the environment, Ctrl-C. main.cc gives the
// real ones, tests their own.
#pragma once

#include <functional>
#include <iostream>
#include <string>

#include "studioctl/interrupt.h"

namespace studio::ctl {

struct Console {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  Interrupt& interrupt;
  // `out` is a terminal: the progress bar is redrawn in place.
  bool is_terminal = false;
  std::function<int()> width = [] { return 80; };
  // Empty where it is not set.
  std::function<std::string(const std::string& name)> environment = {};
};

}  // namespace studio::ctl
