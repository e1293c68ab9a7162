#include "model/chat_templates.h"

#include <format>

namespace baton::model {

namespace {

constexpr std::string_view kTemplateKey = "tokenizer.chat_template";

}  // namespace

Result<std::vector<NamedTemplate>> read_chat_templates(const GgufFile& file) {
  std::vector<NamedTemplate> templates;
  for (const std::string_view key : file.keys()) {
    if (!key.starts_with(kTemplateKey)) continue;
    const std::string_view rest = key.substr(kTemplateKey.size());
    // tokenizer.chat_templates is only the list of their names.
    if (!rest.empty() && (rest[0] != '.' || rest.size() == 1)) continue;
    const auto source = TRY(file.get<std::string_view>(key));
    templates.push_back({rest.empty() ? "default" : std::string(rest.substr(1)), std::string(source)});
  }
  return templates;
}

Result<std::string> read_chat_template(const GgufFile& file, std::string_view name) {
  std::string known;
  for (NamedTemplate& found : TRY(read_chat_templates(file))) {
    if (found.name == name) return std::move(found.source);
    known += std::format(" '{}'", found.name);
  }
  if (known.empty()) {
    return file.error(ErrorCode::kUnsupported, "the model has no chat template");
  }
  return file.error(ErrorCode::kNotFound, std::format("the model has no chat template '{}', only{}", name, known));
}

}  // namespace baton::model
