#include "engine/prompt_lookup.h"

#include <algorithm>
#include <utility>

namespace baton::engine {

namespace {

// A pair of tokens that stands everywhere must not make every guess a search through the whole text.
constexpr int kMostPlaces = 64;

}  // namespace

std::uint64_t PromptLookup::key(Token before, Token last) {
  return std::uint64_t{static_cast<std::uint32_t>(before)} << 32 | static_cast<std::uint32_t>(last);
}

// Places are named by the index of what followed. The end of the text is not one: nothing follows it yet.
void PromptLookup::push(Token token) {
  const auto place = static_cast<std::uint32_t>(text_.size());
  text_.push_back(token);
  earlier_.push_back(0);
  if (place < kLeastMatch) return;
  std::uint32_t& latest = latest_[key(text_[place - 2], text_[place - 1])];
  earlier_[place] = std::exchange(latest, place);
}

std::uint32_t PromptLookup::match_at(std::uint32_t end) const {
  const auto size = static_cast<std::uint32_t>(text_.size());
  const std::uint32_t most = std::min(end, kMostMatch);
  std::uint32_t matched = 0;
  while (matched < most && text_[end - 1 - matched] == text_[size - 1 - matched]) ++matched;
  return matched;
}

PromptLookup::Guess PromptLookup::guess(std::uint32_t most) const {
  const auto size = static_cast<std::uint32_t>(text_.size());
  if (size < kLeastMatch || most == 0) return {};
  const auto latest = latest_.find(key(text_[size - 2], text_[size - 1]));
  if (latest == latest_.end()) return {};
  std::uint32_t origin = 0;
  Guess guess;
  int places = 0;
  for (std::uint32_t place = latest->second; place != 0 && places < kMostPlaces; place = earlier_[place], ++places) {
    const std::uint32_t matched = match_at(place);
    if (matched > guess.matched) {
      guess.matched = matched;
      origin = place;
    }
    if (matched == kMostMatch) break;
  }
  guess.tokens.reserve(most);
  for (std::uint32_t index = 0; index < most; ++index) {
    const std::uint32_t from = origin + index;
    guess.tokens.push_back(from < size ? text_[from] : guess.tokens[from - size]);
  }
  return guess;
}

}  // namespace baton::engine
