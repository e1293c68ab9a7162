// Conversations with a model in this process: its chat template around one prompt, or around a dialogue.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/dialogue.h"
#include "model/gguf.h"
#include "node/node.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace CLI {
class App;
}

namespace baton::cli {

// --chat, --raw, --system, --chat-template, --set.
struct ChatFlags {
  bool chat = false;
  bool raw = false;
  std::string system;
  std::string template_name = "default";
  std::vector<std::string> variables;  // NAME=JSON

  void add_to(CLI::App& command);
  // Whether a prompt that is given is a question rather than the beginning of a text.
  bool wanted() const { return chat || !system.empty(); }
};

// Renders and tokenises a conversation with a model. Borrows the tokenizer.
class ChatPrompter {
 public:
  static Result<ChatPrompter> create(const model::GgufFile& file, const text::Tokenizer& tokenizer,
                                     const ChatFlags& flags);

  void add_user(std::string text) { add(text::Role::kUser, std::move(text)); }
  void add_assistant(std::string text) { add(text::Role::kAssistant, std::move(text)); }
  void drop_last() { request_.messages.pop_back(); }
  // Of the conversation nothing is left, but what the model was told before it.
  void forget();
  // The tokens up to where the model's answer begins.
  Result<std::vector<Token>> prompt() const;

 private:
  ChatPrompter(const text::Tokenizer& tokenizer, text::ChatTemplate chat_template, text::ChatRequest request)
      : tokenizer_(&tokenizer), template_(std::move(chat_template)), request_(std::move(request)) {}
  void add(text::Role role, std::string text);

  const text::Tokenizer* tokenizer_;
  text::ChatTemplate template_;
  text::ChatRequest request_;
};

// Answers with that model. `request` is what every turn shares, all but the prompt. The KV of the conversation is kept
// from turn to turn, as far as its text stays the same.
class LocalAnswerer : public Answerer {
 public:
  // All borrowed must outlive it.
  LocalAnswerer(net::EventLoop& loop, node::LoadedModel& model, const text::Tokenizer& tokenizer, ChatPrompter prompter,
                node::RequestOptions request);
  Result<void> answer(std::string question) override;
  void forget() override { prompter_.forget(); }

 private:
  Result<std::string> stream_answer();

  net::EventLoop& loop_;
  node::LoadedModel& model_;
  const text::Tokenizer& tokenizer_;
  ChatPrompter prompter_;
  const node::RequestOptions request_;
};

}  // namespace baton::cli
