// Files by their content: SHA-256 and size.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "proto/studio/v1/state.pb.h"

namespace studio {

// 64 lower-case hex digits.
std::string Sha256OfBytes(std::string_view bytes);

// Reads the file `folder`/`path`. NotFound where it is not there.
absl::StatusOr<v1::FileRef> HashFile(const std::string& folder, const std::string& path);

// Every file below `folder`, sorted by path. `uri` is left empty.
absl::StatusOr<v1::Artifact> HashFolder(const std::string& folder);

}  // namespace studio
