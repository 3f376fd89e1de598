#include "controller/api/authorize.h"

#include "common/status/testing.h"

namespace studio::controller {
namespace {

TEST(IsLoopback, KnowsAddressesThatOnlyThisMachineReaches) {
  for (const char* address : {"127.0.0.1:7070", "127.1.2.3:0", "localhost:7070", "[::1]:7070"}) {
    EXPECT_TRUE(IsLoopback(address)) << address;
  }
  for (const char* address : {"0.0.0.0:7070", "[::]:7070", "10.0.0.1:7070", "127.evil.example.com:7070", ":7070", "",
                              "128.0.0.1:1", "127.0.0.1.example.com:1", "localhost.example.com:1"}) {
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

TEST(Authorize, NeedsAName) {
  EXPECT_OK(Authorize({"local"}, "job.get", "j1"));
  EXPECT_THAT(Authorize({""}, "job.get", "j1"),
              StatusIs(absl::StatusCode::kPermissionDenied, testing::HasSubstr("job.get on j1")));
}

}  // namespace
}  // namespace studio::controller
