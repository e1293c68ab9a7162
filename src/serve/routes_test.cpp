#include "serve/routes.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <utility>

#include "serve/page.h"

namespace baton::serve {
namespace {

TEST(Routes, SayInTheFormOfTheApiThatAPathBelongsToWhatIsWrong) {
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
  EXPECT_EQ(&error_form_for("/api/requests/"), &kProblems);
  EXPECT_EQ(&error_form_for("/api/planet"), &kOllamaErrors);
  EXPECT_EQ(&error_form_for("/nothing"), &kOpenAiErrors);
}

constexpr const char* kKey = "a-key-of-some-length";

HttpRequest asked(std::string method, std::string path, HttpHeaders headers) {
  HttpRequest request;
  request.method = std::move(method);
  request.path = std::move(path);
  request.headers = std::move(headers);
  return request;
}

// One that other machines reach.
class RoutesOfAReachedApi : public testing::Test {
 protected:
  static ServerOptions options() {
    return {.listen = {"0.0.0.0", 8770}, .api_keys = {kKey}, .origins = {"https://chat.example"}};
  }
  int status(const HttpRequest& request) {
    const auto refusal = refuse_request(core_, request);
    return refusal ? refusal->status : 200;
  }

  const std::unique_ptr<net::EventLoop> loop_ = net::EventLoop::create().value();
  ServerCore core_{*loop_, options(), 512};
};

TEST_F(RoutesOfAReachedApi, AreOpenOnlyWhereNothingIsAskedOfAModel) {
  for (const char* path : {"/", "/assets/page.js", "/health", "/ready"}) {
    EXPECT_EQ(status(asked("GET", path, {})), 200) << path;
  }
  for (const PageFile& file : page_files()) {
    EXPECT_EQ(status(asked("GET", std::string(file.path), {})), 200) << file.path;
  }
  for (const char* path : {"/metrics", "/v1/models", "/api/tags", "/api/requests", "/api/requests/7", "/nothing"}) {
    EXPECT_EQ(status(asked("GET", path, {})), 401) << path;
    EXPECT_NE(status(asked("GET", path, {{"x-api-key", kKey}})), 401) << path;
  }
}

TEST_F(RoutesOfAReachedApi, ChangeNothingForWhoeverMayOnlyAsk) {
  static constexpr std::array<std::pair<const char*, const char*>, 4> kChanging = {
      {{"POST", "/api/pull"}, {"POST", "/api/copy"}, {"DELETE", "/api/delete"}, {"DELETE", "/api/requests/7"}}};
  for (const auto& [method, path] : kChanging) {
    EXPECT_EQ(status(asked(method, path, {{"x-api-key", kKey}})), 403) << path;
    // Nor does a browser hear that it may.
    EXPECT_EQ(
        status(asked("OPTIONS", path, {{"origin", "https://chat.example"}, {"access-control-request-method", method}})),
        403)
        << path;
  }
  EXPECT_EQ(status(asked("GET", "/api/requests/7", {{"x-api-key", kKey}})), 200);
  EXPECT_EQ(status(asked("GET", "/api/pull", {{"x-api-key", kKey}})), 405);
  EXPECT_EQ(status(asked("GET", "/nothing", {{"x-api-key", kKey}})), 404);
  EXPECT_EQ(status(asked("OPTIONS", "/v1/chat/completions",
                         {{"origin", "https://chat.example"}, {"access-control-request-method", "POST"}})),
            200);
}

}  // namespace
}  // namespace baton::serve
