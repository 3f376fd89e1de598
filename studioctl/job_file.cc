#include "studioctl/job_file.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/job/job_rules.h"
#include "common/job/job_text.h"
#include "common/status/macros.h"

namespace studio::ctl {
namespace {

// The documents of a stream, each preceded by as many empty lines as stood before it, so that errors keep their lines.
std::vector<std::string> Documents(const std::string& text) {
  std::vector<std::string> documents(1);
  int line = 0;
  bool blank = true;
  for (absl::string_view row : absl::StrSplit(text, '\n')) {
    ++line;
    if (absl::StripTrailingAsciiWhitespace(row) == "---") {
      if (blank) documents.pop_back();
      documents.emplace_back(line, '\n');
      blank = true;
    } else {
      absl::StrAppend(&documents.back(), row, "\n");
      if (!absl::StripAsciiWhitespace(row).empty()) blank = false;
    }
  }
  if (blank && documents.size() > 1) documents.pop_back();
  return documents;
}

absl::StatusOr<JobFile> ReadJob(const std::string& text, const std::string& name, const std::string& folder,
                                const std::vector<std::string>& sets) {
  JobFile file;
  ASSIGN_OR_RETURN(file.job, ParseJobText(text, name));
  for (const std::string& set : sets) RETURN_IF_ERROR(ApplySet(file.job, set));
  std::vector<std::string> lines;
  for (const Violation& violation : FindViolations(file.job)) {
    lines.push_back(absl::StrCat(name, ": ", violation.field, ": ", violation.message));
  }
  if (!lines.empty()) return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
  file.folder = folder;
  return file;
}

}  // namespace

absl::StatusOr<std::vector<JobFile>> ReadJobFiles(const std::vector<std::string>& paths,
                                                  const std::vector<std::string>& sets, Console& console) {
  std::vector<JobFile> files;
  for (const std::string& path : paths) {
    if (path == "-") {
      const std::string text((std::istreambuf_iterator<char>(console.in)), {});
      for (const std::string& document : Documents(text)) {
        ASSIGN_OR_RETURN(JobFile file, ReadJob(document, "<stdin>", ".", sets));
        files.push_back(std::move(file));
      }
      continue;
    }
    std::error_code code;
    std::ifstream stream(path, std::ios::binary);
    if (!stream || std::filesystem::is_directory(path, code)) {
      return absl::UnknownError(absl::StrCat(path, ": cannot be read; name a job in text form (job.pb.txt)"));
    }
    // One byte more than is accepted is enough to be refused.
    std::string text(kMaxJobTextBytes + 1, 0);
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(stream.gcount());
    ASSIGN_OR_RETURN(JobFile file, ReadJob(text, path, std::filesystem::path(path).parent_path().string(), sets));
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace studio::ctl
