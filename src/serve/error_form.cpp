#include "serve/error_form.h"

#include <boost/beast/http/status.hpp>

#include "serve/anthropic.h"
#include "serve/json.h"
#include "serve/ollama.h"
#include "serve/openai.h"

namespace baton::serve {

namespace {

constexpr std::string_view kRetryAfterSeconds = "2";

std::string problem_body(int status, const Error& error) {
  namespace http = boost::beast::http;
  const auto title = http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status)));
  JsonObject problem;
  problem.text("type", "about:blank")
      .text("title", std::string_view(title.data(), title.size()))
      .integer("status", status)
      .text("detail", error.message)
      .text("code", error_code_name(error.code));
  if (!error.context.empty()) problem.text("param", error.context);
  return problem.str();
}

}  // namespace

constinit const ErrorForm kOpenAiErrors{kJsonType, openai::error_body};
constinit const ErrorForm kCompletionErrors{kJsonType, openai::completion_error_body};
constinit const ErrorForm kResponseErrors{kJsonType, openai::response_error_body};
constinit const ErrorForm kAnthropicErrors{kJsonType, anthropic::error_body};
constinit const ErrorForm kOllamaErrors{kJsonType, ollama::error_body};
constinit const ErrorForm kProblems{"application/problem+json", problem_body};

HttpHeaders retry_headers(int status, const Error& error) {
  if (error.code == ErrorCode::kCancelled) return {{"x-should-retry", "false"}};
  if (status == 429 || status == 503) return {{"Retry-After", std::string(kRetryAfterSeconds)}};
  return {};
}

Error error_for_status(int status, std::string_view message) {
  Error error{ErrorCode::kInvalidArgument, std::string(message), {}};
  if (status == 401 || status == 403) error.code = ErrorCode::kRefused;
  if (status == 404) error.code = ErrorCode::kNotFound;
  if (status == 408) error.code = ErrorCode::kTimeout;
  if (status == 429 || status == 503) error.code = ErrorCode::kNoCapacity;
  return error;
}

}  // namespace baton::serve
