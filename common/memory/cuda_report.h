// The numbers in the message of LibTorch's CUDA allocator, which tell whose memory was short:
//   CUDA out of memory. Tried to allocate 1.95 GiB. GPU 0 has a total capacity of 14.57 GiB of which 1.58 GiB is free.
//   Process 2493055 has 12.02 GiB memory in use. Including non-PyTorch memory, this process has 966.00 MiB memory in
//   use. 8.50 GiB allowed; Of the allocated memory …
// Pure; any thread.
#pragma once

#include <string_view>

namespace studio {

// The request would have fitted into the device beside what this process holds: others hold the rest. False wherever
// a number lacks (without NVML the allocator does not know its own share) and where a limit was set on the process.
bool FitsWithoutOthers(std::string_view message);

}  // namespace studio
