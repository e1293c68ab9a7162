// How OpenAI's API writes answers: chat and completions, whole or as a stream.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "serve/canonical.h"

namespace baton::serve::openai {

struct FormatOptions {
  std::string model;
  std::uint32_t choices = 1;
  bool logprobs = false;
  bool include_usage = false;
  std::vector<std::string> echo;  // of each prompt, what the text begins with
};

std::unique_ptr<AnswerFormat> chat_format(FormatOptions options);
std::unique_ptr<AnswerFormat> completion_format(FormatOptions options);

}  // namespace baton::serve::openai
