#include "common/framing/framing.h"

#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "common/status/testing.h"
#include "proto/studio/v1/trainer.pb.h"

namespace studio {
namespace {

using testing::HasSubstr;

// Two ends of a socket, as an agent and a rank hold them.
class FramingTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_), 0); }
  void TearDown() override {
    CloseOurs();
    close(ends_[1]);
  }
  void CloseOurs() {
    if (ends_[0] >= 0) close(ends_[0]);
    ends_[0] = -1;
  }
  void WriteRaw(std::string_view bytes) { ASSERT_EQ(write(ends_[0], bytes.data(), bytes.size()), bytes.size()); }

  int ours() const { return ends_[0]; }
  int theirs() const { return ends_[1]; }

 private:
  int ends_[2] = {-1, -1};
};

v1::TrainerUp Note(const std::string& text) {
  v1::TrainerUp up;
  up.set_sequence(7);
  up.set_note(text);
  return up;
}

TEST_F(FramingTest, MessagesArriveInOrder) {
  ASSERT_OK(WriteFrame(ours(), Note("one")));
  ASSERT_OK(WriteFrame(ours(), v1::TrainerUp()));
  ASSERT_OK(WriteFrame(ours(), Note("three")));
  FrameReader reader(theirs());
  v1::TrainerUp up;
  ASSERT_OK(reader.Read(up));
  EXPECT_EQ(up.note(), "one");
  ASSERT_OK(reader.Read(up));
  EXPECT_FALSE(up.has_note()) << "an empty message is a frame of length 0, and replaces what was there";
  ASSERT_OK(reader.Read(up));
  EXPECT_EQ(up.note(), "three");
}

TEST_F(FramingTest, AMessageLongerThanAnyBufferArrivesWhole) {
  const std::string text(5 << 20, 'x');
  std::thread writer([&] { EXPECT_OK(WriteFrame(ours(), Note(text))); });
  FrameReader reader(theirs());
  v1::TrainerUp up;
  EXPECT_OK(reader.Read(up));
  writer.join();
  EXPECT_EQ(up.note(), text);
}

TEST_F(FramingTest, EndBetweenMessagesIsOutOfRange) {
  ASSERT_OK(WriteFrame(ours(), Note("last")));
  CloseOurs();
  FrameReader reader(theirs());
  v1::TrainerUp up;
  ASSERT_OK(reader.Read(up));
  EXPECT_THAT(reader.Read(up), StatusIs(absl::StatusCode::kOutOfRange, "end of stream"));
}

TEST_F(FramingTest, EndInsideAMessageIsDataLoss) {
  ASSERT_OK_AND_ASSIGN(const std::string frame, EncodeFrame(Note("cut")));
  WriteRaw(std::string_view(frame).substr(0, 4));
  CloseOurs();
  FrameReader reader(theirs());
  v1::TrainerUp up;
  EXPECT_THAT(reader.Read(up), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("4 bytes into it")));
}

TEST_F(FramingTest, ALengthAboveTheLimitIsRefusedBeforeAnythingIsAllocated) {
  WriteRaw("\xff\xff\xff\xff\x7f");
  FrameReader reader(theirs());
  v1::TrainerUp up;
  EXPECT_THAT(reader.Read(up), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("above the limit")));
}

TEST_F(FramingTest, BytesThatAreNoMessageAreRefused) {
  WriteRaw(std::string("\x02\xff\xff", 3));
  FrameReader reader(theirs());
  v1::TrainerUp up;
  EXPECT_THAT(reader.Read(up), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("is no studio.v1.TrainerUp")));
}

TEST_F(FramingTest, WritingToAPeerThatIsGoneIsAnErrorAndNoSignal) {
  close(theirs());
  EXPECT_THAT(WriteFrame(ours(), Note("lost")), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("writing")));
}

TEST(EncodeFrame, RefusesWhatTheOtherEndWouldRefuse) {
  EXPECT_THAT(EncodeFrame(Note(std::string(kMaxFrameBytes, 'x'))),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("in parts")));
}

TEST(FrameDecoder, TakesBytesOneAtATime) {
  ASSERT_OK_AND_ASSIGN(std::string bytes, EncodeFrame(Note(std::string(300, 'a'))));
  ASSERT_OK_AND_ASSIGN(const std::string second, EncodeFrame(Note("b")));
  bytes += second;
  FrameDecoder decoder;
  v1::TrainerUp up;
  std::string seen;
  for (const char byte : bytes) {
    decoder.Append({&byte, 1});
    ASSERT_OK_AND_ASSIGN(const bool found, decoder.Next(up));
    if (found) seen += up.note().substr(0, 1);
  }
  EXPECT_EQ(seen, "ab");
  EXPECT_THAT(decoder.AtEnd(), StatusIs(absl::StatusCode::kOutOfRange, "end of stream"));
}

}  // namespace
}  // namespace studio
