// Any chat template with any words in the conversation: it is refused, or it renders or fails within its bounds. The
// input is a message's text with a length byte before it, then the template.
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "text/chat_template.h"

using namespace baton;
using namespace baton::text;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  ByteReader reader(std::as_bytes(std::span(bytes, size)));
  const auto words = reader.read_string<std::uint8_t>();
  if (!words) return 0;
  const std::string source(reinterpret_cast<const char*>(bytes) + 1 + words->size(), size - 1 - words->size());
  const auto chat_template = ChatTemplate::create(source, {"<|im_end|>", "</s>"});
  if (!chat_template) return 0;
  ChatRequest request;
  request.messages.push_back({.role = Role::kSystem, .content = "Be brief."});
  request.messages.push_back({.role = Role::kUser, .content = std::string(*words)});
  request.messages.push_back({.role = Role::kAssistant, .tool_calls = {{"1", "search", R"({"query": [1, null]})"}}});
  request.tools_json.push_back(R"({"type": "function", "function": {"name": "search", "parameters": {}}})");
  (void)chat_template->render(request);
  return 0;
}
