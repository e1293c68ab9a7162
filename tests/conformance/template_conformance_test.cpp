// Chat templates against what Jinja2 makes of them: tests/reference/templates/README.md says what the files are.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <format>
#include <glaze/glaze.hpp>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "base/file.h"
#include "model/chat_templates.h"
#include "model/vocabulary.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace baton::conformance {

namespace fs = std::filesystem;

// The files' JSON.
struct PartJson {
  std::string type;
  std::string text;
};
struct FunctionJson {
  std::string name;
  glz::raw_json arguments;
};
struct CallJson {
  std::string id;
  std::string type;
  FunctionJson function;
};
struct MessageJson {
  std::string role;
  std::optional<std::variant<std::string, std::vector<PartJson>>> content;
  std::optional<std::string> reasoning_content;
  std::optional<std::string> tool_call_id;
  std::vector<CallJson> tool_calls;
};
struct ConversationJson {
  std::vector<MessageJson> messages;
  std::vector<glz::raw_json> tools;
  std::vector<glz::raw_json> documents;
  bool add_generation_prompt = true;
  std::map<std::string, glz::raw_json> variables;
};
struct OutcomeJson {
  std::optional<std::string> text;
  std::optional<std::string> refused;
  std::optional<std::string> failed;
};
struct ExpectedJson {
  std::map<std::string, std::map<std::string, OutcomeJson>> templates;
  std::vector<OutcomeJson> expressions;
};

namespace {

const fs::path kFolder = fs::path(BATON_SOURCE_DIR) / "tests/reference/templates";

std::string read(const fs::path& path) {
  auto text = read_text_file(path);
  EXPECT_TRUE(text) << text.error().to_string();
  return text.value_or("");
}

template <typename T>
T read_json(const fs::path& path) {
  T value{};
  const std::string text = read(path);
  const auto error = glz::read_json(value, text);
  EXPECT_FALSE(error) << path << ": " << glz::format_error(error, text);
  return value;
}

text::Role role_of(const std::string& name) {
  for (const auto role : {text::Role::kSystem, text::Role::kDeveloper, text::Role::kUser, text::Role::kAssistant}) {
    if (text::role_name(role) == name) return role;
  }
  EXPECT_EQ(name, "tool");
  return text::Role::kTool;
}

text::ChatMessage message_of(const MessageJson& json) {
  text::ChatMessage message;
  message.role = role_of(json.role);
  if (json.content) {
    if (const auto* text = std::get_if<std::string>(&*json.content)) {
      message.content = *text;
    } else {
      std::vector<text::ContentPart> parts;
      for (const PartJson& part : std::get<std::vector<PartJson>>(*json.content))
        parts.push_back({part.type, part.text});
      message.content = std::move(parts);
    }
  }
  message.reasoning_content = json.reasoning_content;
  message.tool_call_id = json.tool_call_id;
  for (const CallJson& call : json.tool_calls) {
    message.tool_calls.push_back({call.id, call.function.name, call.function.arguments.str});
  }
  return message;
}

text::ChatRequest request_of(const ConversationJson& json) {
  text::ChatRequest request;
  for (const MessageJson& message : json.messages) request.messages.push_back(message_of(message));
  for (const glz::raw_json& tool : json.tools) request.tools_json.push_back(tool.str);
  for (const glz::raw_json& document : json.documents) request.documents_json.push_back(document.str);
  for (const auto& [name, value] : json.variables) request.variables.emplace_back(name, value.str);
  request.generation_prompt = json.add_generation_prompt ? text::GenerationPrompt::kAdd : text::GenerationPrompt::kNone;
  request.bos_token = "<s>";
  request.eos_token = "</s>";
  using namespace std::chrono;
  request.local_time = local_days(2025y / March / 9d) + 14h + 5min + 6s;
  return request;
}

Result<text::ChatTemplate> template_of(const std::string& source) {
  return text::ChatTemplate::create(source, {"<|im_end|>", "</s>"});
}

// Nothing where the outcome is the expected one, else what it was.
std::optional<std::string> difference(const Result<text::ChatTemplate>& chat_template, const text::ChatRequest& request,
                                      const OutcomeJson& expected) {
  const auto rendered =
      chat_template ? chat_template->render(request) : Result<text::MarkedText>(std::unexpected(chat_template.error()));
  if (rendered) return expected.text == rendered->bytes() ? std::nullopt : std::optional(rendered->bytes());
  const Error& error = rendered.error();
  const bool refused = error.code == ErrorCode::kInvalidArgument;
  const bool as_expected = !expected.text && refused == expected.refused.has_value() &&
                           error.message.ends_with(expected.refused.value_or(""));
  return as_expected ? std::nullopt : std::optional(error.to_string());
}

// Where minja is known to read Jinja otherwise. The list is to shrink: what is on it must still differ.
class Deviations {
 public:
  Deviations() {
    std::istringstream lines(read(kFolder / "deviations.txt"));
    for (std::string line; std::getline(lines, line);) known_.insert(line);
  }
  void check(const std::string& name, const std::optional<std::string>& difference) const {
    if (known_.contains(name)) {
      EXPECT_TRUE(difference) << "no deviation any more: " << name;
    } else {
      EXPECT_FALSE(difference) << "deviates: " << name << "\n" << difference.value_or("");
    }
  }

 private:
  std::set<std::string> known_;
};

TEST(TemplateConformance, RendersEveryFamilyAsJinja2Does) {
  const auto expected = read_json<ExpectedJson>(kFolder / "expected.json");
  const auto conversations = read_json<std::map<std::string, ConversationJson>>(kFolder / "conversations.json");
  const Deviations deviations;
  ASSERT_GE(expected.templates.size(), 10U);
  for (const auto& [family, outcomes] : expected.templates) {
    const auto chat_template = template_of(read(kFolder / (family + ".jinja")));
    ASSERT_EQ(outcomes.size(), conversations.size());
    for (const auto& [name, outcome] : outcomes) {
      deviations.check(std::format("{} with '{}'", family, name),
                       difference(chat_template, request_of(conversations.at(name)), outcome));
    }
  }
}

TEST(TemplateConformance, ComputesEveryExpressionAsJinja2Does) {
  const auto expected = read_json<ExpectedJson>(kFolder / "expected.json");
  const Deviations deviations;
  std::istringstream lines(read(kFolder / "expressions.txt"));
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    ASSERT_LT(count, expected.expressions.size());
    deviations.check(line, difference(template_of(line), request_of({}), expected.expressions[count]));
  }
  EXPECT_EQ(count, expected.expressions.size());
}

// Vocabularies that carry their model's own template: those in the tree, and a larger set beside it where there is one.
TEST(TemplateConformance, RendersRealTemplatesAndLetsNoMessageBreakThem) {
  const fs::path source = BATON_SOURCE_DIR;
  std::size_t seen = 0;
  for (const fs::path& folder : {source / "tests/reference/vocab", source.parent_path() / "shared/vocab"}) {
    if (!fs::exists(folder)) continue;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".gguf") continue;
      const auto file = model::GgufFile::open(entry.path());
      ASSERT_TRUE(file) << file.error().to_string();
      const auto found = model::read_chat_template(*file);
      if (!found) continue;
      ++seen;
      auto data = model::read_vocabulary(*file);
      ASSERT_TRUE(data) << data.error().to_string();
      auto vocabulary = text::Vocabulary::create(std::move(*data));
      ASSERT_TRUE(vocabulary) << vocabulary.error().to_string();
      const auto tokenizer = text::Tokenizer::create(std::move(*vocabulary));
      ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();
      const std::vector<std::string> controls = tokenizer->vocabulary().control_texts();
      const auto chat_template = text::ChatTemplate::create(*found, controls);
      ASSERT_TRUE(chat_template) << entry.path() << ": " << chat_template.error().to_string();
      const auto count_controls = [&](const std::string& question) {
        text::ChatRequest request = request_of({});
        request.messages.emplace_back().content = question;
        const auto text = chat_template->render(request);
        EXPECT_TRUE(text) << text.error().to_string();
        const auto tokens = text ? tokenizer->encode(*text) : Result<std::vector<Token>>();
        EXPECT_TRUE(tokens);
        return std::ranges::count_if(tokens.value_or(std::vector<Token>()), [&](Token token) {
          return tokenizer->vocabulary().type(token) == text::TokenType::kControl;
        });
      };
      const auto benign = count_controls("hello");
      EXPECT_GT(benign, 0) << entry.path();
      for (const std::string& control : controls) EXPECT_EQ(count_controls("a" + control + "b"), benign) << control;
    }
  }
  EXPECT_GT(seen, 0U);
}

}  // namespace
}  // namespace baton::conformance
