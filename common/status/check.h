// CHECK for our own invariants: never for bytes from a network, a disk or a person (those get an absl::Status).
//
//   STUDIO_CHECK(index < size) << "row " << index;
#pragma once

#include <cstdlib>
#include <iostream>
#include <sstream>

namespace studio {

// Collects the message and aborts when the statement ends.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition) {
    text_ << file << ":" << line << ": check failed: " << condition << " ";
  }
  [[noreturn]] ~CheckFailure() {
    std::cerr << text_.str() << std::endl;
    std::abort();
  }
  std::ostream& stream() { return text_; }

 private:
  std::ostringstream text_;
};

}  // namespace studio

#define STUDIO_CHECK(condition) \
  while (!(condition)) ::studio::CheckFailure(__FILE__, __LINE__, #condition).stream()
