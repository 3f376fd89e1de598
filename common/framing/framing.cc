#include "common/framing/framing.h"

#include <google/protobuf/io/coded_stream.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio {
namespace {

// A length of kMaxFrameBytes takes four bytes; a fifth with any bit set is too long whatever follows.
constexpr size_t kMaxLengthBytes = 5;
constexpr size_t kReadBytes = 64 << 10;

struct Length {
  size_t value;
  size_t width;
};

absl::StatusOr<std::optional<Length>> DecodeLength(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kMaxLengthBytes; ++i) {
    if (i == bytes.size()) return std::optional<Length>();
    const auto byte = static_cast<uint8_t>(bytes[i]);
    value |= uint64_t{byte & 0x7fu} << (7 * i);
    if (value > kMaxFrameBytes) break;
    if ((byte & 0x80) == 0) return std::optional<Length>({static_cast<size_t>(value), i + 1});
  }
  return absl::DataLossError(absl::StrCat("a frame's length is above the limit of ", kMaxFrameBytes,
                                          " bytes: the stream does not hold frames, or is out of step"));
}

// A socket's peer may be gone: MSG_NOSIGNAL keeps that an error. Pipes and files take write().
ssize_t SendOrWrite(int fd, std::string_view bytes) {
#ifdef MSG_NOSIGNAL
  const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent >= 0 || errno != ENOTSOCK) return sent;
#endif
  return write(fd, bytes.data(), bytes.size());
}

}  // namespace

absl::StatusOr<std::string> EncodeFrame(const google::protobuf::MessageLite& message) {
  const size_t size = message.ByteSizeLong();
  if (size > kMaxFrameBytes) {
    return absl::InvalidArgumentError(absl::StrCat(message.GetTypeName(), " of ", size,
                                                   " bytes is above a frame's limit of ", kMaxFrameBytes,
                                                   ": send it in parts"));
  }
  uint8_t length[kMaxLengthBytes];
  const uint8_t* end =
      google::protobuf::io::CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(size), length);
  std::string frame(reinterpret_cast<const char*>(length), end - length);
  STUDIO_CHECK(message.AppendPartialToString(&frame));
  return frame;
}

absl::StatusOr<bool> FrameDecoder::Next(google::protobuf::MessageLite& message) {
  const std::string_view rest = std::string_view(buffer_).substr(used_);
  ASSIGN_OR_RETURN(const std::optional<Length> length, DecodeLength(rest));
  if (!length || rest.size() - length->width < length->value) {
    buffer_.erase(0, used_);
    used_ = 0;
    return false;
  }
  if (!message.ParseFromArray(rest.data() + length->width, static_cast<int>(length->value))) {
    return absl::DataLossError(absl::StrCat("a frame of ", length->value, " bytes is no ", message.GetTypeName()));
  }
  used_ += length->width + length->value;
  STUDIO_CHECK(used_ <= buffer_.size());
  return true;
}

absl::Status FrameDecoder::AtEnd() const {
  if (used_ == buffer_.size()) return absl::OutOfRangeError("end of stream");
  return absl::DataLossError(
      absl::StrCat("the stream ended inside a frame, ", buffer_.size() - used_, " bytes into it"));
}

absl::Status FrameReader::Read(google::protobuf::MessageLite& message) {
  while (true) {
    ASSIGN_OR_RETURN(const bool found, decoder_.Next(message));
    if (found) return absl::OkStatus();
    char bytes[kReadBytes];
    const ssize_t got = read(fd_, bytes, sizeof bytes);
    if (got > 0) {
      decoder_.Append({bytes, static_cast<size_t>(got)});
    } else if (got == 0 || errno == ECONNRESET) {
      return decoder_.AtEnd();
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd wait = {fd_, POLLIN, 0};
      poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return absl::UnavailableError(absl::StrCat("reading descriptor ", fd_, ": ", std::strerror(errno)));
    }
  }
}

absl::Status WriteFrame(int fd, const google::protobuf::MessageLite& message) {
  ASSIGN_OR_RETURN(const std::string frame, EncodeFrame(message));
  return WriteAll(fd, frame);
}

absl::Status WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = SendOrWrite(fd, bytes);
    if (sent >= 0) {
      bytes.remove_prefix(sent);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd wait = {fd, POLLOUT, 0};
      poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return absl::UnavailableError(absl::StrCat("writing descriptor ", fd, ": ", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

}  // namespace studio
