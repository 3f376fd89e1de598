#include "worker/trainer/model/torch_status.h"

#include <c10/util/Exception.h>

#include <new>
#include <string>

#include "common/memory/out_of_memory.h"

namespace studio {
namespace {

// The first line, for LibTorch adds a stack; the whole text where only that says that memory was short (NCCL's does on
// its last line), so that who reads the status can tell.
std::string Told(const std::string& text) {
  const std::string first = text.substr(0, text.find('\n'));
  return IsOutOfMemory(text) && !IsOutOfMemory(first) ? text : first;
}

absl::StatusCode CodeOf(const std::string& text) {
  return IsOutOfMemory(text) ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal;
}

}  // namespace

absl::Status CatchTorchStatus(absl::FunctionRef<void()> body) {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string text;
  try {
    body();
  } catch (const c10::OutOfMemoryError& error) {
    code = absl::StatusCode::kResourceExhausted;
    text = Told(error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    code = absl::StatusCode::kResourceExhausted;
    text = "the host has no memory left (std::bad_alloc)";
  } catch (const c10::Error& error) {
    text = Told(error.what_without_backtrace());
    code = CodeOf(text);
  } catch (const std::exception& error) {
    text = Told(error.what());
    code = CodeOf(text);
  }
  return code == absl::StatusCode::kOk ? absl::OkStatus() : absl::Status(code, text);
}

}  // namespace studio
