#include "text/sentencepiece.h"

#include <algorithm>
#include <format>
#include <functional>

#include "text/utf8.h"

namespace baton::text {
namespace {

// The characters of a text one after the other. A byte that begins no valid character is one by itself.
std::string_view next_character(std::string_view text) {
  return text.substr(0, std::max<std::size_t>(1, valid_character_length(text)));
}

bool is_valid(std::string_view text) { return valid_prefix_length(text) == text.size(); }

// Ranks from scores: equal scores share one, better scores have lower ones.
std::vector<std::uint32_t> rank_tokens(const Vocabulary& vocabulary) {
  std::vector<float> scores;
  scores.reserve(vocabulary.size());
  for (std::size_t i = 0; i < vocabulary.size(); ++i) scores.push_back(vocabulary.score(static_cast<Token>(i)));
  std::vector<float> distinct = scores;
  std::ranges::sort(distinct, std::greater<>());
  distinct.erase(std::ranges::unique(distinct).begin(), distinct.end());
  std::vector<std::uint32_t> ranks;
  ranks.reserve(scores.size());
  for (const float score : scores) {
    const auto place = std::ranges::lower_bound(distinct, score, std::greater<>());
    ranks.push_back(static_cast<std::uint32_t>(place - distinct.begin()));
  }
  return ranks;
}

}  // namespace

SentencePieceEncoder::SentencePieceEncoder(const Vocabulary& vocabulary) : vocabulary_(&vocabulary) {
  ascii_.fill(kNoSymbol);
  const auto count = static_cast<Token>(vocabulary.size());
  for (Token token = 0; token < count; ++token) {
    if (may_be_made(token)) add_characters(token);
  }
  for (unsigned c = 0; c < ascii_.size(); ++c) {
    const char character = static_cast<char>(c);
    ascii_[c] = symbol_of_part(c == ' ' ? kEscapedSpace : std::string_view(&character, 1));
  }
  const std::vector<std::uint32_t> ranks = rank_tokens(vocabulary);
  for (Token token = 0; token < count; ++token) {
    if (may_be_made(token)) add_merges(token, ranks[static_cast<std::size_t>(token)]);
  }
}

// Control and unknown tokens are not text, and a byte token's name is not that byte.
bool SentencePieceEncoder::may_be_made(Token token) const {
  const TokenType type = vocabulary_->type(token);
  if (type != TokenType::kNormal && type != TokenType::kUserDefined) return false;
  const std::string& text = vocabulary_->stored_text(token);
  return vocabulary_->find(text) == token && is_valid(text);
}

void SentencePieceEncoder::add_characters(Token token) {
  std::string_view rest = vocabulary_->stored_text(token);
  Symbol previous = kNoSymbol;
  while (!rest.empty()) {
    const std::string_view character = next_character(rest);
    rest.remove_prefix(character.size());
    const auto [entry, is_new] = characters_.try_emplace(character, kNoSymbol);
    if (is_new) {
      const auto own = vocabulary_->find(character);
      if (own && may_be_made(*own)) {
        entry->second = static_cast<Symbol>(*own);
      } else {
        entry->second = static_cast<Symbol>(vocabulary_->size() + other_symbols_.size());
        other_symbols_.emplace_back(character);
      }
    }
    if (previous != kNoSymbol) neighbours_.add(previous, entry->second, {.rank = 0, .product = 0});
    previous = entry->second;
  }
}

void SentencePieceEncoder::add_merges(Token token, std::uint32_t rank) {
  const std::string_view text = vocabulary_->stored_text(token);
  for (std::size_t cut = next_character(text).size(); cut < text.size();) {
    const Symbol left = symbol_of_part(text.substr(0, cut));
    const Symbol right = left == kNoSymbol ? kNoSymbol : symbol_of_part(text.substr(cut));
    if (right != kNoSymbol) merges_.add(left, right, {rank, static_cast<Symbol>(token)});
    cut += next_character(text.substr(cut)).size();
  }
}

Symbol SentencePieceEncoder::symbol_of_part(std::string_view part) const {
  if (const auto character = characters_.find(part); character != characters_.end()) return character->second;
  const auto token = vocabulary_->find(part);
  return token && may_be_made(*token) ? static_cast<Symbol>(*token) : kNoSymbol;
}

Symbol SentencePieceEncoder::symbol_of_character(std::string_view character) const {
  if (character.size() == 1) {
    const auto byte = static_cast<std::uint8_t>(character[0]);
    return byte < ascii_.size() ? ascii_[byte] : kNoSymbol;
  }
  const auto found = characters_.find(character);
  return found == characters_.end() ? kNoSymbol : found->second;
}

Result<void> SentencePieceEncoder::encode(std::string_view text, std::vector<Token>& tokens) const {
  Merger merger(merges_);
  std::vector<Symbol> word;
  std::vector<Symbol> merged;
  const auto end_word = [&]() -> Result<void> {
    merged.clear();
    merger.merge(word, merged);
    word.clear();
    for (const Symbol symbol : merged) TRY(append_token(symbol, tokens));
    return {};
  };
  while (!text.empty()) {
    const std::string_view character = next_character(text);
    text.remove_prefix(character.size());
    const Symbol symbol = symbol_of_character(character);
    if (!word.empty() && (symbol == kNoSymbol || neighbours_.find(word.back(), symbol).rank == Merge::kNever)) {
      TRY(end_word());
    }
    if (symbol == kNoSymbol) {
      TRY(append_character(character, tokens));
    } else {
      word.push_back(symbol);
    }
  }
  return end_word();
}

Result<void> SentencePieceEncoder::append_token(Symbol symbol, std::vector<Token>& tokens) const {
  if (symbol < vocabulary_->size()) {
    tokens.push_back(static_cast<Token>(symbol));
    return {};
  }
  const std::string& character = other_symbols_[symbol - vocabulary_->size()];
  return append_character(character == kEscapedSpace ? std::string_view(" ") : character, tokens);
}

Result<void> SentencePieceEncoder::append_character(std::string_view character, std::vector<Token>& tokens) const {
  const auto byte_token = [&](char c) { return vocabulary_->byte_token(static_cast<std::uint8_t>(c)); };
  if (std::ranges::all_of(character, [&](char c) { return byte_token(c).has_value(); })) {
    for (const char c : character) tokens.push_back(*byte_token(c));
  } else if (vocabulary_->unknown()) {
    tokens.push_back(*vocabulary_->unknown());
  } else {
    return fail(ErrorCode::kUnsupported,
                std::format("the vocabulary has no token for the byte 0x{:02X}, nor one for the unknown",
                            static_cast<unsigned>(static_cast<std::uint8_t>(character[0]))));
  }
  return {};
}

}  // namespace baton::text
