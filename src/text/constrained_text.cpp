#include "text/constrained_text.h"

#include <algorithm>

namespace baton::text {

namespace {

constexpr std::size_t kWordBits = 64;
// Of one language: all are forgotten when there are more.
constexpr std::size_t kMostMaskBytes = 8U << 20;

}  // namespace

TokenLanguage::TokenLanguage(std::unique_ptr<ByteLanguage> language, ByteLanguage::Node start,
                             std::shared_ptr<const TokenTrie> trie, std::vector<Token> end_tokens)
    : language_(std::move(language)), start_(start), trie_(std::move(trie)), end_tokens_(std::move(end_tokens)) {
  path_.resize(trie_->depth() + 1);
}

TokenLanguage::Mask TokenLanguage::make_mask(ByteLanguage::Node state, std::uint32_t longest_rest) {
  Mask mask;
  mask.bits.resize((trie_->vocabulary_size() + kWordBits - 1) / kWordBits);
  const auto allow = [&](Token token) {
    const auto index = static_cast<std::size_t>(token);
    mask.bits[index / kWordBits] |= std::uint64_t{1} << (index % kWordBits);
  };
  path_[0] = state;
  const auto nodes = trie_->nodes();
  for (std::size_t at = 0; at < nodes.size();) {
    const TokenTrie::Node& node = nodes[at];
    const ByteLanguage::Node after = language_->next(path_[node.depth], node.byte);
    if (after == ByteLanguage::kNothing) {
      at = node.end;
      continue;
    }
    path_[node.depth + 1U] = after;
    ++at;
    const std::uint32_t rest = language_->shortest(after);
    if (node.tokens == 0 || rest > longest_rest) continue;
    mask.longest_rest = std::max(mask.longest_rest, rest);
    for (const Token token : trie_->tokens_of(node)) allow(token);
  }
  if (language_->accepts(state)) std::ranges::for_each(end_tokens_, allow);
  return mask;
}

Result<TokenLanguage::Allowed> TokenLanguage::allowed(ByteLanguage::Node state, std::uint32_t tokens_left) {
  language_->begin_work();
  const ByteLanguage::Node alike = language_->alike(state, static_cast<std::uint32_t>(trie_->depth()));
  auto found = masks_.find(alike);
  if (found == masks_.end()) {
    Mask mask = make_mask(alike, ByteLanguage::kNever);
    if (masks_.size() * mask.bits.size() * sizeof(mask.bits[0]) >= kMostMaskBytes) masks_.clear();
    found = masks_.emplace(alike, std::move(mask)).first;
  }
  const std::uint32_t room = tokens_left == 0 ? 0 : tokens_left - 1;
  Allowed result{found->second.bits};
  // No token reaches what was cut down.
  const std::uint64_t cut = language_->shortest(state) - language_->shortest(alike);
  if (found->second.longest_rest + cut > room && language_->shortest(state) <= tokens_left) {
    short_mask_ = make_mask(state, room).bits;
    result = {short_mask_, true};
  }
  if (exhausted()) return fail(ErrorCode::kNoCapacity, "the answer's form has grown too large to follow");
  return result;
}

ByteLanguage::Node TokenLanguage::after(ByteLanguage::Node state, Token token) {
  for (const char byte : trie_->bytes_of(token)) state = language_->next(state, static_cast<std::uint8_t>(byte));
  return state;
}

}  // namespace baton::text
