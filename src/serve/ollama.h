// Ollama's API: /api/chat, /api/generate, /api/tags, /api/ps, /api/show, as its public documentation describes them
// (docs/api.md of that project). Streams are lines of JSON.
#pragma once

#include <span>
#include <string>

#include "serve/canonical.h"
#include "serve/json.h"
#include "serve/served_model.h"

namespace baton::serve::ollama {

Result<ParsedRequest> parse_chat(const Json& body, const ServedModel& model);
Result<ParsedRequest> parse_generate(const Json& body, const ServedModel& model);
// What asks for no text: a generate without a prompt, a chat without messages. Nothing where it does.
Result<std::optional<LoadWish>> parse_chat_load(const Json& body, const ServedModel& model);
Result<std::optional<LoadWish>> parse_generate_load(const Json& body, const ServedModel& model);

std::string model_list(std::span<const ServedModel* const> models);
struct RunningModel {
  const ServedModel* model = nullptr;
  std::string digest;
  std::uint64_t bytes = 0;  // of memory
  Duration expires_in{};
  std::uint32_t context_tokens = 0;
};
std::string running_list(std::span<const RunningModel> models);
Result<std::string> show(const Json& body, const ServedModel& model);

// {"error": "..."}
std::string error_body(int status, const Error& error);

}  // namespace baton::serve::ollama
