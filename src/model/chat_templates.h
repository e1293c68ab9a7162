// The chat templates in a model's file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/gguf.h"

namespace baton::model {

struct NamedTemplate {
  std::string name;  // "default", or such as "tool_use" and "rag"
  std::string source;
};

// tokenizer.chat_template as "default" and every tokenizer.chat_template.NAME, in file order; empty where there is
// none.
Result<std::vector<NamedTemplate>> read_chat_templates(const GgufFile& file);

// The one of that name. kUnsupported where there is none at all; kNotFound, naming those there are, where it is
// missing.
Result<std::string> read_chat_template(const GgufFile& file, std::string_view name = "default");

}  // namespace baton::model
