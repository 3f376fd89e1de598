// Preloaded into one program (LD_PRELOAD), it lets one call on that program's files fail: what ill_disk.h asks for in
// STUDIO_ILL_DISK. Descriptors are told apart by the path that the kernel names; nothing else of the program changes.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>
#include <sstream>
#include <string>

namespace {

template <typename Function>
Function Real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

struct Wanted {
  bool here = false;   // in this program
  std::string under;   // files whose path begins so; with a '$' at its end, the one file of this path
  bool syncs = false;  // else writes
  int nth = 0;         // the first to fail
  int error = EIO;     // ENOSPC lasts while `log`.full is there; EIO comes once
  std::string log;     // a line for each failure, and for each file that is synced after it failed to be
  std::atomic<int> calls = 0;
  std::mutex mutex;
  std::set<std::string> failed;  // guarded by mutex
};

Wanted& TheWanted() {
  static Wanted& wanted = *new Wanted();
  static const bool read = [] {
    const char* text = getenv("STUDIO_ILL_DISK");
    std::istringstream words(text != nullptr ? text : "");
    std::string program, call, error;
    words >> program >> wanted.under >> call >> wanted.nth >> error >> wanted.log;
    wanted.here = program == program_invocation_short_name;
    wanted.syncs = call == "sync";
    wanted.error = error == "ENOSPC" ? ENOSPC : EIO;
    return true;
  }();
  (void)read;
  return wanted;
}

void Say(const std::string& line) {
  static const auto write_really = Real<ssize_t (*)(int, const void*, size_t)>("write");
  const int fd = open(TheWanted().log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) abort();
  if (write_really(fd, line.data(), line.size()) < 0) abort();
  close(fd);
}

// Whether this call on this descriptor fails; errno says how.
bool Fails(int fd, bool sync) {
  Wanted& wanted = TheWanted();
  if (!wanted.here) return false;
  char path[4096];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = readlink(link.c_str(), path, sizeof path);
  if (size <= 0) return false;
  const std::string name(path, size);
  const bool whole = wanted.under.back() == '$';
  if (whole ? name + "$" != wanted.under : name.compare(0, wanted.under.size(), wanted.under) != 0) return false;
  const std::lock_guard<std::mutex> lock(wanted.mutex);
  if (sync && wanted.failed.count(name) > 0) Say("again " + name + "\n");
  if (sync != wanted.syncs) return false;
  const int call = ++wanted.calls;
  const bool full = wanted.error == ENOSPC && access((wanted.log + ".full").c_str(), F_OK) == 0;
  if (call != wanted.nth && !(call > wanted.nth && full)) return false;
  if (call == wanted.nth) Say("failed " + name + "\n");
  if (sync) wanted.failed.insert(name);
  errno = wanted.error;
  return true;
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* bytes, size_t size) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t)>("write");
  return Fails(fd, false) ? -1 : real(fd, bytes, size);
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return Fails(fd, false) ? -1 : real(fd, bytes, size, offset);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t, off64_t)>("pwrite64");
  return Fails(fd, false) ? -1 : real(fd, bytes, size, offset);
}
int fsync(int fd) {
  static const auto real = Real<int (*)(int)>("fsync");
  return Fails(fd, true) ? -1 : real(fd);
}
int fdatasync(int fd) {
  static const auto real = Real<int (*)(int)>("fdatasync");
  return Fails(fd, true) ? -1 : real(fd);
}

}  // extern "C"
