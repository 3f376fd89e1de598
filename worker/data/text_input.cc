#include "worker/data/text_input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/job/utf8.h"

namespace studio {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr char kByteOrderMark[] = "\xEF\xBB\xBF";

}  // namespace

absl::StatusOr<std::unique_ptr<TextInput>> TextInput::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open data file ", path));
  struct stat info;
  if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, ": a folder where a data file belongs"));
  }
  std::unique_ptr<TextInput> input(new TextInput(path, fd));
  input->SkipByteOrderMark();
  return input;
}

std::unique_ptr<TextInput> TextInput::FromString(std::string text, const std::string& name) {
  std::unique_ptr<TextInput> input(new TextInput(name, -1));
  input->hash_.Update(text);
  input->buffer_ = std::move(text);
  input->SkipByteOrderMark();
  return input;
}

TextInput::~TextInput() {
  if (fd_ >= 0) close(fd_);
}

bool TextInput::Fill() {
  if (fd_ < 0 || !status_.ok()) return false;
  base_ += static_cast<int64_t>(buffer_.size());
  next_ = 0;
  buffer_.resize(kBufferBytes);
  ssize_t n;
  do {
    n = read(fd_, buffer_.data(), buffer_.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0) status_ = absl::ErrnoToStatus(errno, absl::StrCat("cannot read data file ", name_));
  buffer_.resize(std::max<ssize_t>(n, 0));
  hash_.Update(buffer_);
  return !buffer_.empty();
}

void TextInput::SkipByteOrderMark() {
  Peek();
  if (absl::string_view(buffer_).substr(0, 3) == kByteOrderMark) next_ = 3;
}

bool TextInput::GetLine(std::string* line) {
  line->clear();
  if (Peek() == kEnd) return false;
  do {
    const char* begin = buffer_.data() + next_;
    const size_t left = buffer_.size() - next_;
    const char* end = static_cast<const char*>(std::memchr(begin, '\n', left));
    const size_t bytes = end == nullptr ? left : static_cast<size_t>(end - begin);
    line->append(begin, bytes);
    next_ += bytes;
    if (end != nullptr) {
      Get();  // the line feed
      return true;
    }
    if (line->size() > kMaxRowBytes) {
      status_ = absl::InvalidArgumentError(absl::StrCat(At(line_), ": a row of more than ", kMaxRowBytes, " bytes"));
      return false;
    }
  } while (Peek() != kEnd);
  return true;
}

void TextInput::SkipWhiteSpace() {
  for (int c = Peek(); c == ' ' || c == '\t' || c == '\r' || c == '\n'; c = Peek()) Get();
}

std::string TextInput::At(int64_t line) const { return absl::StrCat(name_, ":", line); }

absl::Status TextInput::CheckUtf8(absl::string_view text, int64_t line, int64_t offset) const {
  const std::optional<size_t> bad = FirstNonUtf8(text);
  if (!bad.has_value()) return absl::OkStatus();
  const int64_t bad_line = line + std::count(text.begin(), text.begin() + *bad, '\n');
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: not UTF-8: byte 0x%02X at offset %d of the file; convert the file to UTF-8 (iconv -f LATIN1 -t UTF-8, say)",
      At(bad_line), static_cast<unsigned char>(text[*bad]), offset + static_cast<int64_t>(*bad)));
}

}  // namespace studio
