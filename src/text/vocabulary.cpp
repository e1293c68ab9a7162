#include "text/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <limits>

#include "text/byte_alphabet.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"

namespace baton::text {
namespace {

// Names by which models end a turn, whatever their files say about eos.
constexpr std::string_view kEndTokenNames[] = {
    "<|eot_id|>",         "<|im_end|>",    "<|end|>",    "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>",      "<|endoftext|>", "<|eom_id|>", "<EOT>",      "_<EOT>",   "<turn|>",   "<|end_of_text|>",
    "<end_of_utterance>", "</s>",
};

// The byte of "<0x0A>".
std::optional<std::uint8_t> parse_byte_name(std::string_view name) {
  if (name.size() != 6 || !name.starts_with("<0x") || name[5] != '>') return std::nullopt;
  unsigned value = 0;
  for (const char c : name.substr(3, 2)) {
    unsigned digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<unsigned>(c - '0');
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<unsigned>(c - 'A') + 10;
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<unsigned>(c - 'a') + 10;
    } else {
      return std::nullopt;
    }
    value = value * 16 + digit;
  }
  return static_cast<std::uint8_t>(value);
}

std::string unescape_spaces(std::string_view stored) {
  std::string text;
  text.reserve(stored.size());
  while (!stored.empty()) {
    if (stored.starts_with(kEscapedSpace)) {
      text += ' ';
      stored.remove_prefix(kEscapedSpace.size());
    } else {
      text += stored.front();
      stored.remove_prefix(1);
    }
  }
  return text;
}

}  // namespace

Result<Vocabulary> Vocabulary::create(VocabularyData data) {
  Vocabulary vocabulary(std::move(data));
  TRY(vocabulary.check_tokens());
  TRY(vocabulary.check_merges());
  TRY(vocabulary.index_tokens());
  TRY(vocabulary.check_ids());
  vocabulary.find_end_tokens();
  vocabulary.choose_customs();
  return vocabulary;
}

Result<void> Vocabulary::check_tokens() {
  const std::size_t count = data_.tokens.size();
  if (count == 0 && data_.kind != TokenizerKind::kNone)
    return fail(ErrorCode::kCorrupt, "the vocabulary has no tokens");
  if (count > static_cast<std::size_t>(std::numeric_limits<Token>::max())) {
    return fail(ErrorCode::kCorrupt, std::format("the vocabulary has {} tokens: more than token ids can count", count));
  }
  if (!data_.scores.empty() && data_.scores.size() != count) {
    return fail(ErrorCode::kCorrupt,
                std::format("the vocabulary has {} tokens but {} scores", count, data_.scores.size()));
  }
  if (!data_.types.empty() && data_.types.size() != count) {
    return fail(ErrorCode::kCorrupt,
                std::format("the vocabulary has {} tokens but {} token types", count, data_.types.size()));
  }
  data_.scores.resize(count, 0.0F);
  data_.types.resize(count, TokenType::kNormal);
  for (std::size_t i = 0; i < count; ++i) {
    if (std::isnan(data_.scores[i])) {
      return fail(ErrorCode::kCorrupt, std::format("the score of token {} is not a number", i));
    }
    if (data_.types[i] > TokenType::kByte) {
      return fail(ErrorCode::kCorrupt,
                  std::format("token {} has the unknown type {}", i, static_cast<int>(data_.types[i])));
    }
  }
  return {};
}

Result<void> Vocabulary::check_merges() const {
  if (data_.kind != TokenizerKind::kBytePair) return {};
  for (std::size_t i = 0; i < data_.merges.size(); ++i) {
    const std::string& merge = data_.merges[i];
    // Nothing stored in the byte alphabet has a space, so the only one parts the two.
    const std::size_t space = merge.find(' ', 1);
    if (merge.empty() || space == std::string::npos || space + 1 == merge.size()) {
      return fail(ErrorCode::kCorrupt, std::format("merge {} is not two parts with a space between", i));
    }
  }
  return {};
}

Result<void> Vocabulary::index_tokens() {
  by_text_.reserve(size());
  for (std::size_t i = 0; i < size(); ++i) {
    const auto token = static_cast<Token>(i);
    const std::string& text = data_.tokens[i];
    if (!text.empty()) by_text_.insert_or_assign(text, token);
    if (data_.kind != TokenizerKind::kSentencePiece || data_.types[i] != TokenType::kByte) continue;
    const auto byte = parse_byte_name(text);
    if (!byte) {
      return fail(ErrorCode::kCorrupt, std::format("token {} is a byte token but is not named like <0x0A>", i));
    }
    byte_tokens_[*byte] = token;
  }
  return {};
}

Result<void> Vocabulary::check_ids() {
  if (data_.padding && !contains(*data_.padding)) data_.padding.reset();
  if (size() == 0) {
    // A file may name ids of tokens that it does not list, where it has no text at all.
    data_.bos = data_.eos = data_.eot = data_.unknown = std::nullopt;
    data_.strip_left.clear();
    data_.strip_right.clear();
    return {};
  }
  const auto check = [&](std::string_view name, Token token) -> Result<void> {
    if (contains(token)) return {};
    return fail(ErrorCode::kCorrupt,
                std::format("the {} token has id {} but there are {} tokens", name, token, size()));
  };
  if (data_.bos) TRY(check("BOS", *data_.bos));
  if (data_.eos) TRY(check("EOS", *data_.eos));
  if (data_.eot) TRY(check("EOT", *data_.eot));
  if (data_.unknown) TRY(check("unknown", *data_.unknown));
  for (const Token token : data_.strip_left) TRY(check("left-stripping", token));
  for (const Token token : data_.strip_right) TRY(check("right-stripping", token));
  if (data_.kind == TokenizerKind::kSentencePiece) {
    if (!data_.bos) data_.bos = find("<s>");
    if (!data_.eos) data_.eos = find("</s>");
    if (!data_.unknown) data_.unknown = find("<unk>");
  }
  std::ranges::sort(data_.strip_left);
  std::ranges::sort(data_.strip_right);
  return {};
}

void Vocabulary::find_end_tokens() {
  if (data_.eos) end_tokens_.push_back(*data_.eos);
  if (data_.eot) end_tokens_.push_back(*data_.eot);
  // The harmony and Solar formats end a message, not an answer, with <|end|>.
  const bool end_of_message = find("<|return|>") || find("<|flush|>") || find("<|calls|>");
  for (const std::string_view name : kEndTokenNames) {
    const auto token = find(name);
    if (!token || data_.kind == TokenizerKind::kNone) continue;
    data_.types[static_cast<std::size_t>(*token)] = TokenType::kControl;
    if (name == "<|end|>" && end_of_message) continue;
    end_tokens_.push_back(*token);
  }
  std::ranges::sort(end_tokens_);
  const auto repeated = std::ranges::unique(end_tokens_);
  end_tokens_.erase(repeated.begin(), repeated.end());
}

void Vocabulary::choose_customs() {
  const bool sentence_piece = data_.kind == TokenizerKind::kSentencePiece;
  bool add_bos = sentence_piece;
  if (data_.kind == TokenizerKind::kBytePair) {
    const PreTokenizerSpec* spec = find_pre_tokenizer(data_.pre);
    add_bos = spec != nullptr && spec->sequence_start == SequenceStart::kBos;
  }
  add_bos_ = data_.bos && data_.add_bos.value_or(add_bos);
  add_eos_ = data_.eos && data_.add_eos.value_or(false);
  add_space_prefix_ = sentence_piece && data_.add_space_prefix.value_or(true);
}

std::string Vocabulary::token_bytes(Token token) const {
  const std::string& stored = stored_text(token);
  switch (type(token)) {
    case TokenType::kControl:
    case TokenType::kUnknown:
    case TokenType::kUserDefined: return stored;
    case TokenType::kByte:
      if (const auto byte = parse_byte_name(stored)) return std::string(1, static_cast<char>(*byte));
      return stored;
    case TokenType::kNormal:
    case TokenType::kUnused:
    case TokenType::kUndefined: break;
  }
  switch (data_.kind) {
    case TokenizerKind::kSentencePiece: return unescape_spaces(stored);
    case TokenizerKind::kBytePair: return decode_alphabet(stored);
    case TokenizerKind::kNone: break;
  }
  return stored;
}

std::optional<Token> Vocabulary::find(std::string_view stored_text) const {
  const auto found = by_text_.find(stored_text);
  if (found == by_text_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::string> Vocabulary::control_texts() const {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < size(); ++i) {
    const TokenType type = data_.types[i];
    const bool control = type == TokenType::kControl || type == TokenType::kUnknown;
    if (control && !data_.tokens[i].empty()) texts.push_back(data_.tokens[i]);
  }
  return texts;
}

bool Vocabulary::strips_left(Token token) const { return std::ranges::binary_search(data_.strip_left, token); }
bool Vocabulary::strips_right(Token token) const { return std::ranges::binary_search(data_.strip_right, token); }
bool Vocabulary::ends_generation(Token token) const { return std::ranges::binary_search(end_tokens_, token); }

}  // namespace baton::text
