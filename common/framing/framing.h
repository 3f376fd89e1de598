// Length-delimited protobuf messages: a varint length, then the message (as protobuf's delimited_message_util writes
// it).
//
//   FrameReader reader(fd);
//   TrainerDown order;
//   while (true) {
//     absl::Status status = reader.Read(order);
//     if (absl::IsOutOfRange(status)) break;  // the other end closed, between two messages
//     RETURN_IF_ERROR(status);
//     …
//   }
//   RETURN_IF_ERROR(WriteFrame(fd, event));
//
// Errors: OutOfRange where the stream ends between two messages, DataLoss where it ends inside one or holds bytes that
// are no message, Unavailable where the operating system fails. After any of them the stream is of no more use.
// Threading: one thread reads, another may write; each object belongs to one thread at a time.
// Ownership: descriptors are borrowed, never closed.
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace studio {

// Longest message that either end accepts.
inline constexpr size_t kMaxFrameBytes = size_t{64} << 20;

// The bytes of one frame. InvalidArgument where the message is longer than kMaxFrameBytes.
absl::StatusOr<std::string> EncodeFrame(const google::protobuf::MessageLite& message);

// Cuts a stream of bytes into messages, however the bytes arrive. Does no I/O.
class FrameDecoder {
 public:
  void Append(std::string_view bytes) { buffer_.append(bytes); }

  // True: `message` holds the next one. False: more bytes are needed.
  absl::StatusOr<bool> Next(google::protobuf::MessageLite& message);

  // What the end of the stream means here: OutOfRange between two messages, DataLoss inside one.
  absl::Status AtEnd() const;

 private:
  std::string buffer_;
  size_t used_ = 0;
};

// Reads messages from a blocking descriptor.
class FrameReader {
 public:
  explicit FrameReader(int fd) : fd_(fd) {}

  // Blocks until a message is there or the stream ends.
  absl::Status Read(google::protobuf::MessageLite& message);

 private:
  const int fd_;
  FrameDecoder decoder_;
};

// Writes one message, all of it. A peer that is gone is an error (Unavailable), never a SIGPIPE on a socket.
absl::Status WriteFrame(int fd, const google::protobuf::MessageLite& message);

// Writes bytes, all of them; waits where a non-blocking descriptor is full.
absl::Status WriteAll(int fd, std::string_view bytes);

}  // namespace studio
