// Tells out-of-memory errors from all others by what the libraries say: the exceptions of one cause differ by library
// and by version, so the texts are the evidence. In any letter case.
//
//   switch (OomOf("CUDA out of memory. Tried to allocate 20.00 MiB")) { case Oom::kDevice: … }
//   if (IsOutOfMemory(error)) …                      // a std::exception
//
// The table of texts is in out_of_memory.cc; what a process's end says is in process_end.h. Pure; any thread.
#pragma once

#include <exception>
#include <string_view>

namespace studio {

// Whose memory was not enough.
enum class Oom {
  kNone,
  // An accelerator's.
  kDevice,
  // The machine's or the control group's.
  kHost,
  // An accelerator's, within the collective library: the other ranks wait in it, so that all of them must end.
  kCollective,
  // It would have fitted, had other processes not held so much of the device, or of the machine.
  kDeviceHeldByOthers,
  kHostHeldByOthers,
};

// kNone for whatever is not out of memory: an empty text, an odd one, a sentence that merely speaks of memory.
Oom OomOf(std::string_view text);
// By its type (std::bad_alloc, ENOMEM) before its text. An exception without a text is kNone.
Oom OomOf(const std::exception& error);

// By source. A text may have several: cuDNN's and cuBLAS's are CUDA's too.
bool IsCudaOutOfMemory(std::string_view text);
bool IsMpsOutOfMemory(std::string_view text);
bool IsCpuOutOfMemory(std::string_view text);
// Also CUDNN_STATUS_NOT_SUPPORTED, by which cuDNN reports a workspace that it could not have as well as shapes that it
// does not know: worth one retry with a smaller batch, no more.
bool IsCudnnOutOfMemory(std::string_view text);

// Any of them.
bool IsOutOfMemory(std::string_view text);
bool IsOutOfMemory(const std::exception& error);

// What the owner of the job can do about it: a clause that follows a message. Empty for kNone.
std::string_view OomRemedy(Oom oom);

}  // namespace studio
