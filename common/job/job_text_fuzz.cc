// Whatever the bytes: parsing, checking and filling in neither crash nor hang, and what was read can be written and
// read again.
#include <google/protobuf/text_format.h>

#include <cstdint>
#include <string>

#include "common/job/job_rules.h"
#include "common/job/job_text.h"
#include "common/status/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<studio::v1::Job> job = studio::ParseJobText(text, "fuzz");
  if (!job.ok()) {
    STUDIO_CHECK(job.status().message().substr(0, 4) == "fuzz") << job.status();
    return 0;
  }
  if (!studio::Validate(*job).ok()) return 0;
  std::string printed;
  google::protobuf::TextFormat::PrintToString(studio::WithDefaults(*job), &printed);
  const absl::StatusOr<studio::v1::Job> again = studio::ParseJobText(printed, "fuzz");
  STUDIO_CHECK(again.ok() && studio::Validate(*again).ok()) << again.status() << "\n" << printed;
  return 0;
}
