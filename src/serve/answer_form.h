// What an answer must look like: JSON, a schema's values, calls of functions. Compiled once for each form.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "serve/answer_reader.h"
#include "serve/json.h"
#include "text/constrained_text.h"

namespace baton::serve {

// A function that the model may call.
struct Tool {
  std::string name;
  std::string json;            // {"type": "function", "function": {...}}, as templates see it
  std::optional<Json> schema;  // of its arguments, an object; where there is none it takes none
  std::string schema_path;     // where the request has it
  // Without, a schema that is not supported is not held to: the arguments are then any object.
  enum class Strictness { kWhereSupported, kAlways } strictness = Strictness::kWhereSupported;
};

enum class ToolChoice { kNone, kAuto, kRequired };

struct ToolUse {
  std::vector<Tool> tools;
  ToolChoice choice = ToolChoice::kAuto;
  std::optional<std::string> only;  // the one that must be called, with kRequired
  enum class Count { kOne, kSeveral } count = Count::kSeveral;

  bool any() const { return !tools.empty() && choice != ToolChoice::kNone; }
};

enum class ContentForm { kFree, kObject, kSchema, kGrammar };

struct AnswerForm {
  ContentForm content = ContentForm::kFree;
  std::optional<Json> schema;  // with kSchema
  std::string grammar = {};    // with kGrammar
  std::string schema_path;     // where the request has the one or the other
  ToolUse tools;
};

// Compiled forms of one model, the most recent ones. Safe to use from several threads; what it gives out belongs to the
// thread that samples.
class FormCache {
 public:
  // Both must outlive it.
  FormCache(const text::Vocabulary& vocabulary, const AnswerSyntax& syntax)
      : vocabulary_(vocabulary), syntax_(syntax) {}

  // Null where the answer may be any text. kUnsupported or kInvalidArgument with what is wrong as context.
  Result<std::shared_ptr<text::TokenLanguage>> find_or_compile(const AnswerForm& form, const AnswerReading& reading);

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<text::TokenLanguage> language;
  };

  Result<std::shared_ptr<text::TokenLanguage>> compile(const AnswerForm& form, const AnswerReading& reading);

  const text::Vocabulary& vocabulary_;
  const AnswerSyntax& syntax_;
  std::mutex mutex_;
  std::shared_ptr<const text::TokenTrie> trie_;  // made with the first form
  std::list<Entry> entries_;                     // the latest used first
};

}  // namespace baton::serve
