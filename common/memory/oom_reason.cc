#include "common/memory/oom_reason.h"

namespace studio {

v1::Reason ReasonOf(Oom oom) {
  switch (oom) {
    case Oom::kNone:
      break;
    case Oom::kDevice:
    case Oom::kCollective:
    case Oom::kDeviceHeldByOthers:
      return v1::DEVICE_OOM;
    case Oom::kHost:
    case Oom::kHostHeldByOthers:
      return v1::HOST_OOM;
  }
  return v1::REASON_UNSPECIFIED;
}

}  // namespace studio
