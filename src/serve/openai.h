// OpenAI's API: /v1/chat/completions, /v1/completions, /v1/models, and the shape of its errors, as its public reference
// describes them (API reference, chat and completions). What is not supported is refused by name.
#pragma once

#include <span>
#include <string>

#include "serve/answer_form.h"
#include "serve/canonical.h"
#include "serve/json.h"
#include "serve/served_model.h"

namespace baton::serve::openai {

Result<ParsedRequest> parse_chat(const Json& body, const ServedModel& model);
Result<ParsedRequest> parse_completion(const Json& body, const ServedModel& model);

// A model, and one of the names that clients may call it by.
struct NamedModel {
  std::string name;
  const ServedModel* model = nullptr;
};
// {"object": "list", "data": [...]}, and one of those.
std::string model_list(std::span<const NamedModel> models);
std::string model_entry(const NamedModel& model);

// {"error": {"message", "type", "param", "code"}}
std::string error_body(int status, const Error& error);
// The same where the text that may be too long is a "prompt" or an "input", not "messages".
std::string completion_error_body(int status, const Error& error);
std::string response_error_body(int status, const Error& error);

// For adapters that take the same parameters.
// Token ids, or nothing where the array holds something else.
std::optional<std::vector<Token>> token_list(const Json::array_t& items, std::size_t vocabulary);
// The name that the model is called by: which model that is has been found out before.
Result<std::string> take_model(Fields& body);
// Takes 'messages'.
Result<std::vector<text::ChatMessage>> parse_messages(Fields& body);
Result<text::ChatMessage> parse_message(const Json& value, const std::string& path);
Result<std::vector<text::ContentPart>> parse_parts(const Json::array_t& items, const std::string& path);
Result<text::Role> parse_role(const Fields& message, const std::string& name);
// Text, any object, or the values of a schema, in a member 'json_schema' or beside the type.
Result<void> parse_text_format(const Json& value, const std::string& path, Nesting nesting, AnswerForm& form);
// Nothing is stored here, so nobody may count on it.
Result<void> refuse_storing(Fields& body);
// How much to think: "none", "minimal", "low", "medium", "high".
Result<void> parse_effort(Fields& fields, std::string_view name, const ServedModel& model, text::ChatRequest& chat);
Result<void> parse_sampling(Fields& body, CanonicalRequest& request, std::size_t vocabulary);

}  // namespace baton::serve::openai
