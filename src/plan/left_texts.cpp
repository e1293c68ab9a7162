#include "plan/left_texts.h"

#include <algorithm>

namespace baton::plan {

namespace {

std::size_t common_length(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

}  // namespace

void LeftTexts::add(const std::string& node, std::span<const Token> text) {
  // A turn of a conversation takes the place of the one before.
  std::erase_if(texts_, [&](const Left& left) {
    const bool begins = left.node == node && common_length(left.text, text) == left.text.size();
    if (begins) tokens_ -= left.text.size();
    return begins;
  });
  texts_.push_back({node, {text.begin(), text.end()}});
  tokens_ += text.size();
  while (tokens_ > kMostTokens) {
    tokens_ -= texts_.front().text.size();
    texts_.pop_front();
  }
}

void LeftTexts::forget(const std::string& node) {
  std::erase_if(texts_, [&](const Left& left) {
    if (left.node == node) tokens_ -= left.text.size();
    return left.node == node;
  });
}

std::uint32_t LeftTexts::common_tokens(const std::string& node, std::span<const Token> prompt) const {
  std::size_t longest = 0;
  for (const Left& left : texts_) {
    if (left.node == node) longest = std::max(longest, common_length(left.text, prompt));
  }
  return static_cast<std::uint32_t>(longest);
}

}  // namespace baton::plan
