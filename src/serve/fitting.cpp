#include "serve/fitting.h"

#include <algorithm>
#include <format>

namespace baton::serve {

Result<void> fit(CanonicalRequest& asked, const Room& room) {
  if (asked.prompts.size() * asked.choices > kMostChoices) {
    return fail(ErrorCode::kInvalidArgument, std::format("at most {} answers may be asked for at once", kMostChoices),
                "n");
  }
  std::size_t longest = 0;
  for (const auto& prompt : asked.prompts) {
    if (prompt.empty()) return fail(ErrorCode::kInvalidArgument, "the prompt has no tokens", "prompt");
    longest = std::max(longest, prompt.size());
  }
  if (longest >= room.context_tokens) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("the prompt has {} tokens, and this server has room for {} with the answer", longest,
                            room.context_tokens),
                std::string(kContextLength));
  }
  if (asked.max_new_tokens && *asked.max_new_tokens > room.context_tokens) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("{} new tokens do not fit into this server's context of {}", *asked.max_new_tokens,
                            room.context_tokens),
                "max_tokens");
  }
  const auto left = room.context_tokens - static_cast<std::uint32_t>(longest);
  if (asked.max_new_tokens && *asked.max_new_tokens > left) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("{} prompt tokens and {} new ones do not fit into this server's context of {}: ask for at "
                            "most {}",
                            longest, *asked.max_new_tokens, room.context_tokens, left),
                std::string(kContextLength));
  }
  asked.max_new_tokens = asked.max_new_tokens.value_or(std::min(left, room.default_new_tokens));
  TRY(engine::Sampler::create(asked.sampler));
  return {};
}

Result<void> fit(vectors::VectorRequest& asked, const Room& room, std::span<const Token> end) {
  for (std::vector<Token>& tokens : asked.work.texts) {
    if (tokens.empty()) return fail(ErrorCode::kInvalidArgument, "a text has no tokens");
    if (tokens.size() <= room.context_tokens) continue;
    if (asked.too_long == vectors::TooLong::kRefuse) {
      return fail(
          ErrorCode::kInvalidArgument,
          std::format("a text has {} tokens, and this server has room for {}", tokens.size(), room.context_tokens),
          std::string(kContextLength));
    }
    tokens.resize(room.context_tokens);
    // What the model wants at a text's end it gets, however much of the text is left.
    std::ranges::copy(end, tokens.end() - static_cast<std::ptrdiff_t>(end.size()));
  }
  return {};
}

}  // namespace baton::serve
