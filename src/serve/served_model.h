// The model behind the API: its name, its words and its chat template.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/model.h"
#include "serve/answer_form.h"
#include "serve/fill_in.h"
#include "serve/thinking.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace baton::serve {

struct ChatPrompt {
  std::vector<Token> tokens;
  AnswerReading reading;  // how the answer is to be read; no function may be called yet
};

// Where a chat's answer begins.
enum class AnswerStart {
  kNewMessage,
  kWithinLastMessage,  // the conversation's last message, of the assistant, is the answer's beginning
};

// Immutable; safe to use from several threads.
class ServedModel {
 public:
  // `id` is how clients name it; empty: the file's name without ".gguf". kUnsupported where the model has no tokenizer,
  // for then nobody can talk to it by text. A missing chat template is no error here, but for whoever wants to chat.
  static Result<std::unique_ptr<const ServedModel>> create(std::shared_ptr<const engine::Model> model, std::string id,
                                                           const std::string& template_name = "default");

  const std::string& id() const { return id_; }
  std::int64_t created() const { return created_; }  // the file's last change, seconds since 1970
  const engine::Model& model() const { return *model_; }
  const text::Tokenizer& tokenizer() const { return tokenizer_; }
  const text::Vocabulary& vocabulary() const { return tokenizer_.vocabulary(); }
  bool can_chat() const { return chat_template_.has_value(); }
  const std::string& template_source() const { return template_source_; }
  const AnswerSyntax& syntax() const { return syntax_; }
  // Whether its chat template has a place for functions, and calls them in a way that is known here.
  bool can_call() const;
  // The control tokens that mark the parts of its answers.
  const std::vector<Token>& marks() const { return marks_; }
  // As FormCache says.
  Result<std::shared_ptr<text::TokenLanguage>> form(const AnswerForm& form, const AnswerReading& reading) const {
    return forms_->find_or_compile(form, reading);
  }

  // How it lets itself be told to think.
  const ThinkingControl& thinking() const { return thinking_; }
  // The tokens up to where the model's answer begins. Fills in the model's own BOS and EOS and the time. kUnsupported
  // where the answer is to begin within a message that the template does not write as it is.
  Result<ChatPrompt> chat_prompt(text::ChatRequest request, AnswerStart start = AnswerStart::kNewMessage) const;
  // The tokens of a text to go on from; control tokens are only text.
  Result<std::vector<Token>> text_prompt(const std::string& text) const;
  // The tokens up to where the model writes what belongs between two texts. kUnsupported where it has none for that.
  Result<std::vector<Token>> fill_in_prompt(const std::string& before, const std::string& behind) const;
  bool can_fill_in() const { return fill_in_.has_value(); }
  // By which it says that it is done with that.
  std::vector<Token> fill_in_ends() const { return fill_in_ ? fill_in_->ends : std::vector<Token>(); }
  // A text whose vector is wanted, with the tokens that the model wants around one.
  Result<std::vector<Token>> embedding_prompt(const std::string& text) const;
  // A query and a document that may answer it, as a reranker's template puts them. kUnsupported where it has none.
  Result<std::vector<Token>> pair_prompt(const std::string& query, const std::string& document) const;

 private:
  ServedModel(std::shared_ptr<const engine::Model> model, std::string id, text::Tokenizer tokenizer);

  std::shared_ptr<const engine::Model> model_;
  std::string id_;
  std::int64_t created_ = 0;
  text::Tokenizer tokenizer_;
  std::optional<text::ChatTemplate> chat_template_;
  std::string template_source_;
  std::string why_no_chat_;
  AnswerSyntax syntax_;
  std::vector<Token> marks_;
  ThinkingControl thinking_;
  std::optional<FillInTokens> fill_in_;
  std::optional<std::string> pair_template_;       // with {query} and {document}
  std::unique_ptr<FormCache> forms_;               // has a lock of its own
  std::unique_ptr<text::TokenCache> known_texts_;  // and so has this
};

}  // namespace baton::serve
