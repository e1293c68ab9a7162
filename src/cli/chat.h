// Conversations: a model's chat template around one prompt, or around a dialogue on the terminal.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
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

// Reads questions from the terminal and streams answers until "/bye", the end of the input or Ctrl-C where a question
// is awaited. Ctrl-C during an answer ends the answer, a second one the program. `request` is what every turn shares,
// all but the prompt. The KV of the conversation is kept from turn to turn, as far as its text stays the same. Call
// block_chat_signals() before any other thread starts.
Result<void> run_chat(net::EventLoop& loop, node::Node& node, const text::Tokenizer& tokenizer, ChatPrompter prompter,
                      const node::RequestOptions& request, std::uint32_t context_tokens);
void block_chat_signals();

}  // namespace baton::cli
