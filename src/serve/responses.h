// OpenAI's Responses API: /v1/responses, text and functions, as its public reference describes it. Nothing is stored: a
// request that counts on an earlier one is refused.
#pragma once

#include "serve/canonical.h"
#include "serve/json.h"
#include "serve/served_model.h"

namespace baton::serve::responses {

Result<ParsedRequest> parse(const Json& body, const ServedModel& model);

}  // namespace baton::serve::responses
