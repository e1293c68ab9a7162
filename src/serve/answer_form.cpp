#include "serve/answer_form.h"

#include <algorithm>
#include <format>

#include "serve/json_schema.h"
#include "text/grammar.h"

namespace baton::serve {

namespace {

using text::ByteLanguage;
using Node = ByteLanguage::Node;

constexpr std::size_t kMostEntries = 8;
constexpr std::uint32_t kMostBlanks = 8;

// Builds the language of one form.
class FormBuilder {
 public:
  FormBuilder(ByteLanguage& language, const AnswerForm& form, const AnswerReading& reading)
      : language_(language), json_(language), form_(form), reading_(reading) {}

  Result<Node> build() {
    std::vector<Node> ways;
    if (!must_call()) ways.push_back(TRY(content()));
    if (form_.tools.any()) ways.push_back(TRY(calls()));
    const Node body = language_.either(std::move(ways));
    switch (reading_.syntax.thinks) {
      case ThinkSyntax::kNone: return language_.sequence(leading_blanks(), body);
      // Harmony's begin with a header.
      case ThinkSyntax::kHarmony: return body;
      case ThinkSyntax::kTags: break;
    }
    const Node thought = language_.sequence(language_.until("</think>"), blanks());
    if (reading_.in_thought) return language_.sequence(thought, body);
    const Node maybe = language_.optional(language_.sequence(language_.literal("<think>"), thought));
    return language_.sequence({leading_blanks(), maybe, body});
  }

 private:
  // Where the model may say what it likes, it may do so before a call.
  bool says_nothing() const { return must_call() || form_.content != ContentForm::kFree; }
  bool must_call() const { return form_.tools.any() && form_.tools.choice == ToolChoice::kRequired; }

  Node blanks() {
    text::ByteSet set;
    for (const char c : {' ', '\t', '\r', '\n'}) set.set(static_cast<std::uint8_t>(c));
    return language_.repeat(language_.bytes(set), 0, kMostBlanks);
  }
  // Blanks before JSON are no harm, but a grammar says where they may be.
  Node leading_blanks() { return form_.content == ContentForm::kGrammar ? ByteLanguage::kEmpty : blanks(); }
  Node anything() { return language_.repeat(language_.bytes(text::byte_range(0, 0xFF)), 0, ByteLanguage::kUnbounded); }

  Node final_message(Node node) {
    return language_.sequence({thought_message(), language_.literal("<|channel|>final<|message|>"), node});
  }
  Node thought_message() {
    return language_.optional(
        language_.sequence({language_.literal("<|channel|>analysis<|message|>"), language_.until("<|end|>"),
                            language_.literal("<|start|>assistant")}));
  }

  Result<Node> content() {
    Node node = ByteLanguage::kNothing;
    switch (form_.content) {
      case ContentForm::kFree: return free_text();
      case ContentForm::kObject: node = json_.any_object(); break;
      case ContentForm::kSchema: node = TRY(json_.values(*form_.schema, form_.schema_path)); break;
      case ContentForm::kGrammar: node = TRY(grammar()); break;
    }
    if (node == ByteLanguage::kNothing) {
      return fail(ErrorCode::kInvalidArgument, std::format("'{}' allows no value", form_.schema_path),
                  form_.schema_path);
    }
    return reading_.syntax.calls == CallSyntax::kHarmony ? final_message(node) : node;
  }

  Result<Node> grammar() {
    auto node = text::compile_grammar(form_.grammar, language_);
    if (!node)
      return fail(node.error().code, std::format("'{}': {}", form_.schema_path, node.error().message),
                  form_.schema_path);
    return node;
  }

  // Where functions may be called: text in which none is.
  Node free_text() {
    switch (reading_.syntax.calls) {
      case CallSyntax::kHermes: return language_.without("<tool_call>");
      case CallSyntax::kMistral: return language_.without("[TOOL_CALLS]");
      case CallSyntax::kLlama:
      case CallSyntax::kNone:
      case CallSyntax::kHarmony: break;
    }
    return anything();
  }

  Result<Node> calls() {
    if (reading_.syntax.calls == CallSyntax::kHarmony) return call(Naming::kHeader, "");
    const bool several = form_.tools.count == ToolUse::Count::kSeveral;
    const std::uint32_t more = several ? ByteLanguage::kUnbounded : 0;
    switch (reading_.syntax.calls) {
      case CallSyntax::kHermes: {
        const Node inner = language_.sequence({
          blanks(), TRY(call(Naming::kMember, "arguments"))
          , blanks(), language_.literal("</tool_call>")
        });
        const Node another = language_.sequence({blanks(), language_.literal("<tool_call>"), inner});
        const Node first = says_nothing() ? language_.literal("<tool_call>") : language_.until("<tool_call>");
        return language_.sequence({first, inner, language_.repeat(another, 0, more)});
      }
      case CallSyntax::kMistral: {
        const Node one = TRY(call(Naming::kMember, "arguments"));
        const Node another = language_.sequence({language_.byte(','), json_.blank(), one});
        const Node first = says_nothing() ? language_.literal("[TOOL_CALLS]") : language_.until("[TOOL_CALLS]");
        return language_.sequence(
            {first, json_.blank(), language_.byte('['), one, language_.repeat(another, 0, more), language_.byte(']')});
      }
      case CallSyntax::kLlama:
        return language_.sequence(language_.optional(language_.literal("<|python_tag|>")),
                                  TRY(call(Naming::kMember, "parameters")));
      case CallSyntax::kNone:
      case CallSyntax::kHarmony: break;
    }
    return fail(ErrorCode::kUnsupported,
                "this model's chat template has no way of calling functions that this server knows", "tools");
  }

  // Where the function is named.
  enum class Naming { kMember, kHeader };

  Result<Node> call(Naming naming, std::string_view arguments_name) {
    std::vector<Node> choices;
    for (const Tool& tool : form_.tools.tools) {
      if (form_.tools.only && *form_.tools.only != tool.name) continue;
      const Node arguments = TRY(arguments_of(tool));
      if (naming == Naming::kHeader) {
        choices.push_back(language_.sequence(
            {thought_message(),
             language_.literal("<|channel|>commentary to=functions." + tool.name + " <|constrain|>json<|message|>"),
             arguments}));
        continue;
      }
      choices.push_back(language_.sequence({language_.byte('{'), json_.blank(), language_.literal("\"name\":"),
                                            json_.blank(), json_.constant(tool.name), language_.byte(','),
                                            json_.blank(), json_.constant(arguments_name), language_.byte(':'),
                                            json_.blank(), arguments, json_.blank(), language_.byte('}')}));
    }
    return language_.either(std::move(choices));
  }

  Result<Node> arguments_of(const Tool& tool) {
    if (!tool.schema) return language_.literal("{}");
    auto node = json_.values(*tool.schema, tool.schema_path);
    if (!node && node.error().code == ErrorCode::kUnsupported && tool.strictness == Tool::Strictness::kWhereSupported) {
      return json_.any_object();
    }
    if (node && *node == ByteLanguage::kNothing) {
      return fail(ErrorCode::kInvalidArgument, std::format("'{}' allows no value", tool.schema_path), tool.schema_path);
    }
    return node;
  }

  ByteLanguage& language_;
  JsonLanguage json_;
  const AnswerForm& form_;
  const AnswerReading& reading_;
};

// Everything that the language depends on.
std::string key_of(const AnswerForm& form, const AnswerReading& reading) {
  std::string key = std::format("{} {} {} {} {}", static_cast<int>(form.content), static_cast<int>(reading.in_thought),
                                static_cast<int>(form.tools.choice), static_cast<int>(form.tools.count),
                                form.tools.only.value_or(""));
  if (form.content == ContentForm::kGrammar) key += '\n' + form.schema_path + '\n' + form.grammar;
  if (form.schema) key += '\n' + form.schema_path + '\n' + to_json(*form.schema);
  for (const Tool& tool : form.tools.tools) {
    key += std::format("\n{} {} {}\n", tool.name, static_cast<int>(tool.strictness), tool.schema_path);
    if (tool.schema) key += to_json(*tool.schema);
  }
  return key;
}

}  // namespace

Result<std::shared_ptr<text::TokenLanguage>> FormCache::find_or_compile(const AnswerForm& form,
                                                                        const AnswerReading& reading) {
  if (form.content == ContentForm::kFree) {
    if (!form.tools.any()) return nullptr;
    // Messages of the one kind are free in their order, too; calls of the other look like an answer that is JSON.
    const bool free = reading.syntax.calls == CallSyntax::kHarmony || reading.syntax.calls == CallSyntax::kLlama;
    if (free && form.tools.choice == ToolChoice::kAuto) return nullptr;
  }
  const std::string key = key_of(form, reading);
  const std::lock_guard lock(mutex_);
  const auto known = std::ranges::find(entries_, key, &Entry::key);
  if (known != entries_.end() && !known->language->exhausted()) {
    entries_.splice(entries_.begin(), entries_, known);
    return entries_.front().language;
  }
  if (known != entries_.end()) entries_.erase(known);
  auto language = TRY(compile(form, reading));
  entries_.push_front({key, std::move(language)});
  if (entries_.size() > kMostEntries) entries_.pop_back();
  return entries_.front().language;
}

Result<std::shared_ptr<text::TokenLanguage>> FormCache::compile(const AnswerForm& form, const AnswerReading& reading) {
  if (vocabulary_.end_tokens().empty()) {
    return fail(ErrorCode::kUnsupported, "this model has no token that ends an answer, so it can be held to no form");
  }
  auto language = std::make_unique<ByteLanguage>();
  const Node start = TRY(FormBuilder(*language, form, reading).build());
  const std::string where = form.schema_path.empty() ? "tools" : form.schema_path;
  if (const auto closed = language->close(start); !closed) {
    return fail(closed.error().code, std::format("'{}': {}", where, closed.error().message), where);
  }
  if (!trie_) trie_ = std::make_shared<text::TokenTrie>(vocabulary_, mark_tokens(syntax_, vocabulary_));
  return std::make_shared<text::TokenLanguage>(std::move(language), start, trie_, vocabulary_.end_tokens());
}

}  // namespace baton::serve
