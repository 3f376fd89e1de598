// Which LibTorch this is compiled against. Asked in worker/trainer/libtorch alone: what differs between the versions of
// third_party/pins.sh has a function here, the same for all of them.
#pragma once

#include <torch/version.h>

#define STUDIO_LIBTORCH_SINCE(major, minor) \
  (TORCH_VERSION_MAJOR > (major) || (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))
