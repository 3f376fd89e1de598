// What c10d's TCPStore of this LibTorch can do.
#pragma once

#include "worker/trainer/libtorch/version.h"

namespace studio::libtorch {

// The libuv store may be given a socket that listens already (TCPStoreOptions::masterListenFd). Where not, the other
// one is taken: options.useLibUV = libtorch::kLibuvStoreTakesSocket.
inline constexpr bool kLibuvStoreTakesSocket = STUDIO_LIBTORCH_SINCE(2, 11);

}  // namespace studio::libtorch
