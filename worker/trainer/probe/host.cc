#include "worker/trainer/probe/host.h"

#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace studio {
namespace {

// "VmHWM:   123456 kB" in one of the kernel's files. 0 where it is not there.
int64_t ReadKibibytes(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, key)) return std::atoll(line.c_str() + key.size()) * 1024;
  }
  return 0;
}

// Where the limits of this process's control group stand, of both versions; those of the groups above it bind too, but
// a container does not see them. Inside one the paths are those of its own group at the root.
std::vector<std::string> LimitFiles() {
  std::vector<std::string> files = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    // hierarchy:controllers:path; version 2 has no controllers.
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    if (parts[1].empty()) files.push_back(absl::StrCat("/sys/fs/cgroup", parts[2], "/memory.max"));
    if (parts[1] == "memory") {
      files.push_back(absl::StrCat("/sys/fs/cgroup/memory", parts[2], "/memory.limit_in_bytes"));
    }
  }
  return files;
}

}  // namespace

HostNames ReadHostNames() {
  utsname names = {};
  uname(&names);
  return {names.machine, absl::StrCat(names.sysname, " ", names.release), names.nodename};
}

int HostCores() { return std::max(1u, std::thread::hardware_concurrency()); }

HostMemory ReadHostMemory() {
  HostMemory memory;
  memory.total_bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  memory.allocatable_bytes = memory.total_bytes;
  for (const std::string& file : LimitFiles()) {
    // "max" where there is no limit: reading a number fails. Version 1 has a number above any memory.
    int64_t limit = 0;
    if (std::ifstream(file) >> limit && limit > 0) {
      memory.allocatable_bytes = std::min(memory.allocatable_bytes, limit);
    }
  }
  if (const int64_t available = ReadKibibytes("/proc/meminfo", "MemAvailable:"); available > 0) {
    memory.used_bytes = memory.total_bytes - available;
  }
  return memory;
}

int64_t PeakResidentBytes() {
  // Not getrusage on Linux: there a child's figure starts from what its parent used at the fork.
  if (const int64_t peak = ReadKibibytes("/proc/self/status", "VmHWM:"); peak > 0) return peak;
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;  // macOS: bytes
}

std::set<std::string> CpuFlags() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, "flags") && !absl::StartsWith(line, "Features")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::set<std::string> flags;
    for (std::string word; words >> word;) flags.insert(word);
    return flags;
  }
  return {};
}

bool CpuHasNativeBf16() {
  const std::set<std::string> flags = CpuFlags();
  return flags.count("avx512_bf16") > 0 || flags.count("amx_bf16") > 0 || flags.count("bf16") > 0;
}

}  // namespace studio
