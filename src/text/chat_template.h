// A model's own chat template: a conversation to the text that the model was trained to see, as Hugging Face's
// apply_chat_template renders it (Jinja 3.1, trim_blocks, lstrip_blocks), by minja. Where minja reads Jinja otherwise
// is listed in tests/reference/templates/README.md.
//
// A template is a program out of a file that anyone may have written. It runs in a process of its own,
// 'baton-template', which is ended where it takes more than 2 seconds of computing for a rendering or 5 for being
// parsed, 256 MiB of memory or 64 MiB of stack (template_protocol.h; docs/adr/0012-template-process.md says why). Every
// rendering starts from the same state; the next one after a bad one is as good as any.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "text/marked_text.h"

namespace baton::text {

enum class Role { kSystem, kDeveloper, kUser, kAssistant, kTool };
std::string_view role_name(Role role);

// A part of a message. What is not text is only named to the template, which writes the model's placeholder.
struct ContentPart {
  std::string type = "text";  // "text", "image", "audio", ...
  std::string text;           // where the type is "text"
};

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments_json;  // an object; templates see it parsed
};

struct ChatMessage {
  Role role = Role::kUser;
  // None, plain text, or parts: many templates know only plain text.
  std::variant<std::monostate, std::string, std::vector<ContentPart>> content = {};
  std::optional<std::string> reasoning_content = {};  // of an assistant
  std::vector<ToolCall> tool_calls = {};              // of an assistant
  std::optional<std::string> tool_call_id = {};       // of a tool's answer
  std::optional<std::string> name = {};               // of a tool, or of whoever speaks
};

enum class GenerationPrompt {
  kNone,
  kAdd,  // ends with the beginning of an assistant's message
};

struct ChatRequest {
  std::vector<ChatMessage> messages;
  std::vector<std::string> tools_json;      // {"type": "function", "function": {...}} each
  std::vector<std::string> documents_json;  // for models that answer from documents
  GenerationPrompt generation_prompt = GenerationPrompt::kAdd;
  // Further variables of the template, each a JSON value: {"enable_thinking", "false"}. They override none of the
  // above.
  std::vector<std::pair<std::string, std::string>> variables;
  // The model's own tokens, as text; they are trusted.
  std::string bos_token;
  std::string eos_token;
  // What strftime_now() prints; where it is absent, templates find no such function.
  std::optional<std::chrono::local_seconds> local_time;
};

class ChatTemplate {
 public:
  // `control_texts` are the vocabulary's control tokens, which no message may spell.
  // Starts the process. Fails with kCorrupt where the source is no template, naming the line, or passes a bound;
  // kUnsupported where it is larger than 1 MiB or uses the noncharacters that ControlShield needs; kNotFound where
  // 'baton-template' is not beside the running program.
  static Result<ChatTemplate> create(std::string_view source, std::vector<std::string> control_texts);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // Where messages (but their roles), tools, documents and variables spell a control token, or the beginning of one at
  // their end, the result is marked as foreign; control_shield.h says what the template sees of such a place.
  // Bytes of the request that are no UTF-8 become U+FFFD.
  // Fails with kInvalidArgument where the template refuses the conversation (its own words), a JSON text is none, or
  // texts are longer than 16 MiB together; with kCorrupt where the template itself goes wrong or passes a bound, one of
  // which is a text of 4 MiB and eight times the request's; kTimeout where its process gives no answer in 30 seconds.
  // Safe to call from several threads, which take turns. Waits for the process: not for an event loop's thread.
  Result<MarkedText> render(const ChatRequest& request) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::text
