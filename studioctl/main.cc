#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "studioctl/commands.h"
#include "studioctl/console.h"

namespace {

int TerminalWidth() {
  winsize size = {};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// Ctrl-C wakes what waits; a second one ends the process. Taken by a thread, because little may be done in a handler.
void TakeInterrupts(studio::ctl::Interrupt& interrupt) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before gRPC starts its threads, which inherit it
  std::thread([signals, &interrupt] {
    int number = 0;
    sigwait(&signals, &number);
    interrupt.Raise();
    sigwait(&signals, &number);
    _exit(128 + number);
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);                 // `studioctl logs j1 | head`
  static studio::ctl::Interrupt interrupt;  // outlives the thread that raises it
  TakeInterrupts(interrupt);
  studio::ctl::Console console{std::cin, std::cout, std::cerr, interrupt};
  const char* term = std::getenv("TERM");
  console.is_terminal = isatty(STDOUT_FILENO) != 0 && (term == nullptr || std::string(term) != "dumb");
  console.width = TerminalWidth;
  console.environment = [](const std::string& name) {
    const char* value = std::getenv(name.c_str());
    return std::string(value == nullptr ? "" : value);
  };
  return studio::ctl::RunStudioctl(std::vector<std::string>(argv + 1, argv + argc), console);
}
