// How each API says that something went wrong. This node's own endpoints (/api/cluster, /api/plan, /api/requests) do so
// by RFC 9457, "Problem Details for HTTP APIs".
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/http_server.h"

namespace baton::serve {

struct ErrorForm {
  std::string_view content_type;
  std::string (*body)(int status, const Error& error);
};

extern const ErrorForm kOpenAiErrors;
extern const ErrorForm kCompletionErrors;  // where a text that is too long is the "prompt", not "messages"
extern const ErrorForm kResponseErrors;    // and where it is the "input"
extern const ErrorForm kAnthropicErrors;
extern const ErrorForm kOllamaErrors;
// {"type": "about:blank", "title", "status", "detail", "code"}, and "param" where a parameter is meant.
extern const ErrorForm kProblems;

// Whether to come back, and when: Retry-After (RFC 9110, section 10.2.3) where there is too much work now. The SDKs of
// OpenAI and Anthropic ask again by themselves after every status from 500 on unless "x-should-retry" says "false"
// (openai-python and anthropic-sdk-python, _base_client.py): what was cancelled would begin anew.
HttpHeaders retry_headers(int status, const Error& error);

// What is refused before anybody looks at it is known by its status alone.
Error error_for_status(int status, std::string_view message);

}  // namespace baton::serve
