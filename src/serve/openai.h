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

// {"object": "list", "data": [...]}, and one of those.
std::string model_list(std::span<const ServedModel* const> models);
std::string model_entry(const ServedModel& model);

// {"error": {"message", "type", "param", "code"}}
std::string error_body(int status, const Error& error);
std::string error_body(int status, std::string_view message);

// For adapters that take the same parameters.
Result<void> check_model(Fields& body, const ServedModel& model);
Result<std::vector<text::ChatMessage>> parse_messages(const Json* value, const Fields& body,
                                                      std::string_view name = "messages");
Result<text::Role> parse_role(const Fields& message, const std::string& name);
// Text, any object, or the values of a schema, which lies in a member 'json_schema' or beside the type.
enum class SchemaPlace { kInner, kBeside };
Result<void> parse_text_format(const Json& value, const std::string& path, SchemaPlace place, AnswerForm& form);
// Nothing is stored here, so nobody may count on it.
Result<void> refuse_storing(Fields& body);
Result<void> parse_sampling(Fields& body, CanonicalRequest& request, std::size_t vocabulary);

}  // namespace baton::serve::openai
