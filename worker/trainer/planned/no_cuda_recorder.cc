#include "worker/trainer/planned/recorder.h"

namespace studio::planned {

std::unique_ptr<Recorder> MakeRecorder(c10::Device) { return MakeDirectRecorder(); }

}  // namespace studio::planned
