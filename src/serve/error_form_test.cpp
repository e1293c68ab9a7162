#include "serve/error_form.h"

#include <gtest/gtest.h>

#include "base/error_table.h"
#include "serve/json.h"

namespace baton::serve {
namespace {

TEST(ErrorForm, IsThatOfTheApiThatAPathBelongsTo) {
  EXPECT_EQ(&error_form_for("/v1/chat/completions"), &kOpenAiErrors);
  EXPECT_EQ(&error_form_for("/v1/completions"), &kCompletionErrors);
  EXPECT_EQ(&error_form_for("/v1/responses"), &kResponseErrors);
  EXPECT_EQ(&error_form_for("/v1/messages"), &kAnthropicErrors);
  EXPECT_EQ(&error_form_for("/v1/messages/count_tokens"), &kAnthropicErrors);
  EXPECT_EQ(&error_form_for("/v1/messages2"), &kOpenAiErrors);
  EXPECT_EQ(&error_form_for("/api/chat"), &kOllamaErrors);
  EXPECT_EQ(&error_form_for("/api/requests"), &kProblems);
  EXPECT_EQ(&error_form_for("/api/requests/7"), &kProblems);
  EXPECT_EQ(&error_form_for("/api/plan"), &kProblems);
  EXPECT_EQ(&error_form_for("/api/planet"), &kOllamaErrors);
}

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
