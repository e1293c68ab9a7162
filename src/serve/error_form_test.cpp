#include "serve/error_form.h"

#include <gtest/gtest.h>

#include "base/error_table.h"
#include "serve/json.h"

namespace baton::serve {
namespace {

// RFC 9457, section 4.2.1: of type about:blank the title is the status code's phrase.
TEST(ErrorForm, OfThisNodesOwnEndpointsIsAProblem) {
  EXPECT_EQ(kProblems.content_type, "application/problem+json");
  const Json body = parse_json(kProblems.body(404, {ErrorCode::kNotFound, "there is no request '7'", "id"})).value();
  EXPECT_EQ(body["type"].get<std::string>(), "about:blank");
  EXPECT_EQ(body["title"].get<std::string>(), "Not Found");
  EXPECT_EQ(body["status"].as<std::int64_t>(), 404);
  EXPECT_EQ(body["detail"].get<std::string>(), "there is no request '7'");
  EXPECT_EQ(body["code"].get<std::string>(), "not_found");
  EXPECT_EQ(body["param"].get<std::string>(), "id");
}

TEST(ErrorForm, CallsClientsBackUnlessTheyWereCancelled) {
  const auto headers = [](ErrorCode code) { return retry_headers(http_status(code), {code, "why", {}}); };
  using Headers = HttpHeaders;
  EXPECT_EQ(headers(ErrorCode::kNoCapacity), (Headers{{"Retry-After", "2"}}));
  EXPECT_EQ(headers(ErrorCode::kUnavailable), (Headers{{"Retry-After", "2"}}));
  EXPECT_EQ(headers(ErrorCode::kCancelled), (Headers{{"x-should-retry", "false"}}));
  EXPECT_TRUE(headers(ErrorCode::kInvalidArgument).empty());
}

}  // namespace
}  // namespace baton::serve
