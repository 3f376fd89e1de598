// Finding what a person probably meant.
#pragma once

#include <google/protobuf/descriptor.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace studio {

// The name nearest to `word` by edit distance, where one is near enough to be a slip of the finger.
std::optional<std::string> NearestName(absl::string_view word, const std::vector<std::string>& names);

std::vector<std::string> FieldNames(const google::protobuf::Descriptor& message);
std::vector<std::string> ValueNames(const google::protobuf::EnumDescriptor& values);

// Dotted paths below `root` whose last part is `name` ("training.learning_rate" for "learning_rate").
std::vector<std::string> PathsOf(const google::protobuf::Descriptor& root, absl::string_view name);

// " (did you mean 'training.learning_rate'?)", or the names there are where nothing is near. `root` may be null.
std::string SuggestField(absl::string_view word, const google::protobuf::Descriptor& message,
                         const google::protobuf::Descriptor* root);

}  // namespace studio
