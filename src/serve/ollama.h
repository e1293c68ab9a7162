// Ollama's API: /api/chat, /api/generate, /api/tags, /api/show, as its public documentation describes them (docs/api.md
// of that project). Streams are lines of JSON.
#pragma once

#include <chrono>
#include <string>

#include "serve/canonical.h"
#include "serve/json.h"
#include "serve/served_model.h"

namespace baton::serve::ollama {

Result<ParsedRequest> parse_chat(const Json& body, const ServedModel& model);
Result<ParsedRequest> parse_generate(const Json& body, const ServedModel& model);
// {"models": [...]}
Result<std::string> model_list(const ServedModel& model);
Result<std::string> show(const Json& body, const ServedModel& model);
// Takes 'model': "name" and "name:latest" are the same to Ollama's clients.
Result<void> check_model(Fields& body, const ServedModel& model);
std::string time_text(std::chrono::system_clock::time_point time);

// {"error": "..."}
std::string error_body(int status, const Error& error);

}  // namespace baton::serve::ollama
