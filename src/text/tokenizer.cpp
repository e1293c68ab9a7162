#include "text/tokenizer.h"

#include <algorithm>
#include <format>
#include <optional>
#include <utility>

#include "text/byte_pair.h"
#include "text/sentencepiece.h"
#include "text/special_tokens.h"

namespace baton::text {
namespace {

// Bounds what a lying file can make each byte of a text cost.
constexpr std::size_t kMaxSpecialBytes = 1024;

using Place = SpecialTokenFinder::Place;

constexpr std::string_view kAsciiSpaces = " \t\n\v\f\r";

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(Vocabulary checked) : vocabulary(std::move(checked)) {}

  Result<void> find_special_tokens();
  Result<std::vector<Token>> encode(std::string_view text, const SpecialTokenFinder& finder,
                                    std::span<const TextRange> foreign, TokenCache* cache) const;
  // A text between special tokens, or before or after them all.
  Result<void> encode_text(std::string_view text, std::vector<Token>& tokens) const;
  Result<void> encode_text_once(std::string_view text, std::vector<Token>& tokens, TokenCache& cache) const;

  Vocabulary vocabulary;
  SpecialTokenFinder in_plain_text;  // user-defined tokens
  SpecialTokenFinder in_templates;   // those and control tokens
  std::optional<SentencePieceEncoder> sentence_piece;
  std::optional<BytePairEncoder> byte_pair;
};

Result<void> Tokenizer::Impl::find_special_tokens() {
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto token = static_cast<Token>(i);
    const TokenType type = vocabulary.type(token);
    const bool user_defined = type == TokenType::kUserDefined;
    if (!user_defined && type != TokenType::kControl && type != TokenType::kUnknown) continue;
    const std::string& text = vocabulary.stored_text(token);
    if (text.size() > kMaxSpecialBytes) {
      return fail(ErrorCode::kCorrupt, std::format("the special token {} is {} bytes long; at most {} make sense", i,
                                                   text.size(), kMaxSpecialBytes));
    }
    if (user_defined) in_plain_text.add(text, token);
    in_templates.add(text, token, user_defined ? Place::kAnywhere : Place::kOwnText);
  }
  return {};
}

Result<void> Tokenizer::Impl::encode_text(std::string_view text, std::vector<Token>& tokens) const {
  if (text.empty()) return {};
  if (byte_pair) return byte_pair->encode(text, tokens);
  if (!vocabulary.add_space_prefix()) return sentence_piece->encode(text, tokens);
  return sentence_piece->encode(std::string(" ").append(text), tokens);
}

Result<void> Tokenizer::Impl::encode_text_once(std::string_view text, std::vector<Token>& tokens,
                                               TokenCache& cache) const {
  if (cache.append_known(text, tokens)) return {};
  std::vector<Token> made;
  TRY(encode_text(text, made));
  tokens.insert(tokens.end(), made.begin(), made.end());
  cache.keep(text, std::move(made));
  return {};
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::create(Vocabulary vocabulary) {
  auto impl = std::make_unique<Impl>(std::move(vocabulary));
  switch (impl->vocabulary.kind()) {
    case TokenizerKind::kSentencePiece: impl->sentence_piece.emplace(impl->vocabulary); break;
    case TokenizerKind::kBytePair: impl->byte_pair.emplace(TRY(BytePairEncoder::create(impl->vocabulary))); break;
    case TokenizerKind::kNone: return Tokenizer(std::move(impl));
  }
  TRY(impl->find_special_tokens());
  return Tokenizer(std::move(impl));
}

Result<std::vector<Token>> Tokenizer::encode(std::string_view text, SpecialTokens mode) const {
  return impl_->encode(text, mode == SpecialTokens::kParse ? impl_->in_templates : impl_->in_plain_text, {}, nullptr);
}

Result<std::vector<Token>> Tokenizer::encode(const MarkedText& text) const {
  return impl_->encode(text.bytes(), impl_->in_templates, text.foreign(), nullptr);
}

Result<std::vector<Token>> Tokenizer::encode(const MarkedText& text, TokenCache& cache) const {
  return impl_->encode(text.bytes(), impl_->in_templates, text.foreign(), &cache);
}

Result<std::vector<Token>> Tokenizer::Impl::encode(std::string_view text, const SpecialTokenFinder& finder,
                                                   std::span<const TextRange> foreign, TokenCache* cache) const {
  if (vocabulary.kind() == TokenizerKind::kNone) {
    return fail(ErrorCode::kUnsupported, "this model's file has no tokenizer for text: give token ids instead");
  }
  std::vector<Token> tokens;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const auto match = finder.find(text, begin, foreign);
    std::string_view before = text.substr(begin, match ? match->position - begin : std::string_view::npos);
    if (match && vocabulary.strips_left(match->token)) {
      before = before.substr(0, before.find_last_not_of(kAsciiSpaces) + 1);
    }
    TRY(cache == nullptr ? encode_text(before, tokens) : encode_text_once(before, tokens, *cache));
    if (!match) break;
    tokens.push_back(match->token);
    begin = match->position + match->length;
    if (vocabulary.strips_right(match->token))
      begin = std::min(text.find_first_not_of(kAsciiSpaces, begin), text.size());
  }
  return tokens;
}

std::vector<Token> Tokenizer::begin_sequence() const {
  if (!impl_->vocabulary.add_bos()) return {};
  return {*impl_->vocabulary.bos()};
}

std::vector<Token> Tokenizer::end_sequence() const {
  if (!impl_->vocabulary.add_eos()) return {};
  return {*impl_->vocabulary.eos()};
}

const Vocabulary& Tokenizer::vocabulary() const { return impl_->vocabulary; }

}  // namespace baton::text
