// Ollama's API: /api/chat, /api/generate, /api/tags, /api/ps, /api/show, as its public documentation describes them
// (docs/api.md of that project). Streams are lines of JSON.
#pragma once

#include <chrono>
#include <span>
#include <string>

#include "serve/canonical.h"
#include "serve/json.h"
#include "serve/served_model.h"

namespace baton::serve::ollama {

// A chat without messages and a generate without a prompt only want the model loaded, or gone.
Result<ParsedRequest> parse_chat(const Json& body, const ServedModel& model);
Result<ParsedRequest> parse_generate(const Json& body, const ServedModel& model);
// A model by one of its names, and the digest of its file: empty before it is known.
struct ListedModel {
  const ServedModel* model = nullptr;
  std::string name;
  std::string digest;
};
struct RunningModel {
  ListedModel listed;
  std::uint64_t bytes = 0;  // of memory
  Duration expires_in{};
  std::uint32_t context_tokens = 0;
};
// {"models": [...]}
std::string model_list(std::span<const ListedModel> models);
std::string running_list(std::span<const RunningModel> models);
Result<std::string> show(const Json& body, const ServedModel& model);
// Takes 'model', or 'name' as older clients call it: which model that is has been found out before.
Result<std::string> take_model(Fields& body);
// Takes 'keep_alive': seconds, or a duration such as "5m".
Result<std::optional<Duration>> parse_keep_alive(Fields& body);
std::string time_text(std::chrono::system_clock::time_point time);

// {"error": "..."}
std::string error_body(int status, const Error& error);

}  // namespace baton::serve::ollama
