// Anthropic's API: /v1/messages and /v1/messages/count_tokens, as its public reference describes them (Messages).
#pragma once

#include <string>

#include "serve/canonical.h"
#include "serve/json.h"
#include "serve/served_model.h"

namespace baton::serve::anthropic {

Result<ParsedRequest> parse_messages(const Json& body, const ServedModel& model);
// {"input_tokens": n} for the same body.
Result<std::string> count_tokens(const Json& body, const ServedModel& model);

// {"type": "error", "error": {"type", "message"}}
std::string error_body(int status, const Error& error);

}  // namespace baton::serve::anthropic
