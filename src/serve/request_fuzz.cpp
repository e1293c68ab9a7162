// Bodies that anyone may send: JSON, and what is read out of it before a model is asked.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "serve/chat_tools.h"
#include "serve/openai.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace baton::serve;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto value = parse_json(text);
  if (!value) return 0;
  // What was read can be written, and read again to the same.
  const std::string written = to_json(*value);
  const auto again = parse_json(written);
  if (!again || to_json(*again) != written) std::abort();
  auto body = Fields::of(*value);
  if (!body) return 0;
  CanonicalRequest request;
  (void)openai::parse_sampling(*body, request, 1000);
  (void)openai::parse_messages(*body);
  AnswerForm form;
  if (const Json* format = body->take("response_format")) {
    (void)openai::parse_text_format(*format, "response_format", Nesting::kInner, form);
  }
  (void)parse_tools(*body);
  (void)body->refuse_rest();
  return 0;
}
