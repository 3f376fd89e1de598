#include "common/metrics/metrics.h"

#include "common/metrics/http_get.h"
#include "common/metrics/metrics_server.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(MetricsText, PrintsTheExpositionFormat) {
  MetricsText text;
  text.Gauge("studio_jobs", "Jobs by state.", {{"state", "PENDING"}}, 2);
  text.Gauge("studio_jobs", "Jobs by state.", {{"state", "RUNNING"}}, 0.5);
  text.Counter("studio_fences_total", "Given up.", {}, 7);
  text.Gauge("studio_odd", "A \\ and\na line.", {{"what", "a \"b\"\n\\c"}}, 1);
  EXPECT_EQ(std::move(text).Take(),
            "# HELP studio_jobs Jobs by state.\n# TYPE studio_jobs gauge\nstudio_jobs{state=\"PENDING\"} 2\n"
            "studio_jobs{state=\"RUNNING\"} 0.5\n"
            "# HELP studio_fences_total Given up.\n# TYPE studio_fences_total counter\nstudio_fences_total 7\n"
            "# HELP studio_odd A \\\\ and\\na line.\n# TYPE studio_odd gauge\n"
            "studio_odd{what=\"a \\\"b\\\"\\n\\\\c\"} 1\n");
}

TEST(MetricsText, PrintsHistogramsCumulatively) {
  Histogram histogram;
  histogram.Observe(0.0004);
  histogram.Observe(0.002);
  histogram.Observe(1e6);
  MetricsText text;
  text.Add("studio_commit_seconds", "Until durable.", histogram);
  const std::string page = std::move(text).Take();
  EXPECT_THAT(page, HasSubstr("_bucket{le=\"0.0005\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("_bucket{le=\"0.001\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("_bucket{le=\"0.0025\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("_bucket{le=\"10800\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("_bucket{le=\"+Inf\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("studio_commit_seconds_count 3\n"));
}

TEST(AnswerTo, ServesOnePageAlone) {
  const auto page = [] { return std::string("the page"); };
  EXPECT_THAT(AnswerTo("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", page),
              testing::AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 8\r\n"),
                             testing::EndsWith("\r\n\r\nthe page")));
  EXPECT_THAT(AnswerTo("GET /metrics?x=1 HTTP/1.0\r\n\r\n", page), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(AnswerTo("GET / HTTP/1.1\r\n\r\n", page), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(AnswerTo("GET /metricsx HTTP/1.1\r\n\r\n", page), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(AnswerTo("POST /metrics HTTP/1.1\r\n\r\n", page), StartsWith("HTTP/1.1 405"));
  for (const char* bad : {"", "GET", "GET /metrics", "GET /metrics HTTP/2\r\n\r\n", "\r\n\r\n", "a b c d"}) {
    EXPECT_THAT(AnswerTo(bad, page), StartsWith("HTTP/1.1 400")) << bad;
  }
}

TEST(MetricsServer, AnswersOneAfterTheOtherAndEndsAtOnce) {
  int asked = 0;
  ASSERT_OK_AND_ASSIGN(auto server, MetricsServer::Start("127.0.0.1:0", [&] {
                         ++asked;
                         return std::string(1 << 20, 'x');
                       }));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(HttpGet(server->address(), "GET /metrics HTTP/1.1\r\n\r\n").size(), testing::Gt(size_t{1} << 20));
  }
  EXPECT_EQ(asked, 3);
  EXPECT_THAT(MetricsServer::Start(server->address(), [] { return ""; }).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(server->address())));
}

TEST(MetricsServer, NamesAnAddressThatIsNone) {
  for (const char* bad : {"", "7072", "localhost:7072", "127.0.0.1:70000", "127.0.0.1:x", "127.0.0.1:-1"}) {
    EXPECT_THAT(MetricsServer::Start(bad, [] { return ""; }).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("PORT")))
        << bad;
  }
}

}  // namespace
}  // namespace studio
