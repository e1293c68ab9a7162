#include "serve/access.h"

#include <gtest/gtest.h>

namespace baton::serve {
namespace {

using Reach = Access::Reach;

HttpRequest request(std::vector<std::pair<std::string, std::string>> headers) {
  HttpRequest made;
  made.method = "GET";
  made.path = "/v1/models";
  made.headers = std::move(headers);
  made.client = "192.0.2.1";
  return made;
}

int status(Access& access, const HttpRequest& asked, RouteUse use = RouteUse::kAsk) {
  const auto refusal = access.refuse(asked, use);
  return refusal ? refusal->status : 200;
}

TEST(Access, AsksForAKeyWhereThereAreAny) {
  Access access(Reach::kNetwork, KeyRing({"a-key-of-some-length", "another-key-of-some-length"}, {}));
  EXPECT_EQ(status(access, request({{"host", "box:8770"}})), 401);
  EXPECT_EQ(status(access, request({{"authorization", "Bearer wrong"}})), 401);
  EXPECT_EQ(status(access, request({{"authorization", "Basic a-key-of-some-length"}})), 401);
  EXPECT_EQ(status(access, request({{"authorization", "Bearer another-key-of-some-length"}})), 200);
  EXPECT_EQ(status(access, request({{"x-api-key", "a-key-of-some-length"}})), 200);
  EXPECT_EQ(status(access, request({}), RouteUse::kOpen), 200);
}

TEST(Access, AnswersNoPageOfAnotherOrigin) {
  Access access(Reach::kThisMachine, std::nullopt);
  EXPECT_EQ(status(access, request({{"host", "localhost:8770"}, {"origin", "https://evil.example"}})), 403);
  EXPECT_EQ(status(access, request({{"host", "localhost:8770"}, {"origin", "null"}})), 403);
  EXPECT_EQ(status(access, request({{"host", "localhost:8770"}, {"origin", "http://localhost:8770"}})), 200);
}

TEST(Access, AnswersPagesWhoseOriginIsNamed) {
  Access access(Reach::kNetwork, KeyRing({"a-key-of-some-length"}, {}), {"https://chat.example"});
  const auto asked = [](const std::string& origin, std::string method) {
    HttpRequest made = request({{"host", "box:8770"}, {"origin", origin}, {"access-control-request-method", "POST"}});
    made.method = std::move(method);
    return made;
  };
  // A browser asks first, without the key.
  EXPECT_EQ(status(access, asked("https://chat.example", "OPTIONS")), 200);
  EXPECT_EQ(status(access, asked("https://chat.example", "POST")), 401);
  for (const char* origin : {"https://evil.example", "https://chat.example.evil", "http://chat.example", "null", "*"}) {
    EXPECT_EQ(status(access, asked(origin, "OPTIONS")), 403) << origin;
    EXPECT_TRUE(access.headers_for(asked(origin, "OPTIONS")).empty()) << origin;
  }
  EXPECT_EQ(access.headers_for(asked("https://chat.example", "POST")).front().second, "https://chat.example");
}

TEST(Access, LetsModelsAndOthersRequestsBeChangedFromThisMachineUnlessItIsToldOtherwise) {
  const HttpHeaders key = {{"host", "box:8770"}, {"x-api-key", "a-key-of-some-length"}};
  const HttpHeaders page = {{"host", "localhost:8770"}, {"origin", "https://chat.example"}};
  const HttpHeaders own_page = {{"host", "localhost:8770"}, {"origin", "http://localhost:8770"}};
  for (const RouteUse use : {RouteUse::kChangeModels, RouteUse::kCancelRequests}) {
    Access here(Reach::kThisMachine, std::nullopt, {"https://chat.example"});
    EXPECT_EQ(status(here, request({{"host", "localhost:8770"}}), use), 200);
    EXPECT_EQ(status(here, request(own_page), use), 200);
    EXPECT_EQ(status(here, request(page), use), 403);
    EXPECT_EQ(status(here, request(page)), 200);
    Access reached(Reach::kNetwork, KeyRing({"a-key-of-some-length"}, {}));
    EXPECT_EQ(status(reached, request(key), use), 403);
    EXPECT_EQ(status(reached, request(key)), 200);
    Access opened(Reach::kNetwork, KeyRing({"a-key-of-some-length"}, {}), {}, ModelChanges::kByEveryKey);
    EXPECT_EQ(status(opened, request(key), use), 200);
    EXPECT_EQ(status(opened, request({{"host", "box:8770"}}), use), 401);
  }
}

// A page's own name may be made to point to 127.0.0.1; then it is of the same origin.
TEST(Access, KnowsItsOwnNames) {
  Access access(Reach::kThisMachine, std::nullopt);
  EXPECT_EQ(status(access, request({{"host", "evil.example:8770"}, {"origin", "http://evil.example:8770"}})), 403);
  for (const char* host : {"localhost", "127.0.0.1:8770", "127.1.2.3", "[::1]:8770"}) {
    EXPECT_EQ(status(access, request({{"host", host}})), 200) << host;
  }
  // Names that anybody can have, and addresses of other machines.
  for (const char* host : {"127.evil.example:8770", "localhost.evil.example", "192.0.2.1", "[2001:db8::1]:8770"}) {
    EXPECT_EQ(status(access, request({{"host", host}})), 403) << host;
  }
}

TEST(Access, LetsEachKeyWaitItsTurn) {
  Access access(Reach::kNetwork, KeyRing({"a-key-of-some-length", "another-key-of-some-length"}, {}));
  const auto first = access.client_of(request({{"x-api-key", "a-key-of-some-length"}}));
  EXPECT_NE(first, access.client_of(request({{"x-api-key", "another-key-of-some-length"}})));
  EXPECT_EQ(Access(Reach::kThisMachine, {}).client_of(request({})), "192.0.2.1");
}

}  // namespace
}  // namespace baton::serve
