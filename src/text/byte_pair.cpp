#include "text/byte_pair.h"

#include <format>
#include <unordered_map>

#include "text/byte_alphabet.h"

namespace baton::text {
namespace {

// Gives each stored text its symbol, new ones where no token of that text may be made by merging.
class SymbolNames {
 public:
  SymbolNames(const Vocabulary& vocabulary, std::vector<std::string>& others)
      : vocabulary_(&vocabulary), others_(&others) {}

  Symbol symbol(std::string_view stored) {
    if (const auto token = vocabulary_->find(stored)) {
      const TokenType type = vocabulary_->type(*token);
      if (type != TokenType::kControl && type != TokenType::kUnknown) return static_cast<Symbol>(*token);
    }
    const auto [entry, is_new] =
        known_.try_emplace(std::string(stored), static_cast<Symbol>(vocabulary_->size() + others_->size()));
    if (is_new) others_->emplace_back(stored);
    return entry->second;
  }

 private:
  const Vocabulary* vocabulary_;
  std::vector<std::string>* others_;
  std::unordered_map<std::string, Symbol> known_;
};

}  // namespace

BytePairEncoder::BytePairEncoder(const Vocabulary& vocabulary, PreTokenizer pre_tokenizer)
    : vocabulary_(&vocabulary), pre_tokenizer_(std::move(pre_tokenizer)) {}

Result<BytePairEncoder> BytePairEncoder::create(const Vocabulary& vocabulary) {
  if (vocabulary.merges().empty()) return fail(ErrorCode::kCorrupt, "a byte-pair vocabulary needs its list of merges");
  BytePairEncoder encoder(vocabulary, TRY(PreTokenizer::create(vocabulary.pre_tokenizer())));
  SymbolNames names(vocabulary, encoder.other_symbols_);
  for (unsigned byte = 0; byte < 256; ++byte) {
    encoder.byte_symbols_[byte] = names.symbol(byte_to_alphabet(static_cast<std::uint8_t>(byte)));
  }
  std::uint32_t rank = 0;
  std::string product;
  for (const std::string_view merge : vocabulary.merges()) {
    const std::size_t space = merge.find(' ', 1);
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    product.assign(left).append(right);
    encoder.merges_.add(names.symbol(left), names.symbol(right), {rank++, names.symbol(product)});
  }
  return encoder;
}

std::optional<Token> BytePairEncoder::whole_word(std::string_view word, std::string& scratch) const {
  if (pre_tokenizer_.spec().whole_words == WholeWords::kMerge) return std::nullopt;
  scratch.clear();
  encode_alphabet(word, scratch);
  const auto token = vocabulary_->find(scratch);
  if (!token || vocabulary_->type(*token) != TokenType::kNormal) return std::nullopt;
  return token;
}

Result<void> BytePairEncoder::encode(std::string_view text, std::vector<Token>& tokens) const {
  std::vector<std::string_view> words;
  TRY(pre_tokenizer_.split(text, words));
  Merger merger(merges_);
  std::string scratch;
  std::vector<Symbol> symbols;
  std::vector<Symbol> merged;
  for (const std::string_view word : words) {
    if (const auto token = whole_word(word, scratch)) {
      tokens.push_back(*token);
      continue;
    }
    symbols.clear();
    merged.clear();
    for (const char c : word) symbols.push_back(byte_symbols_[static_cast<std::uint8_t>(c)]);
    merger.merge(symbols, merged);
    for (const Symbol symbol : merged) TRY(append_token(symbol, tokens));
  }
  return {};
}

Result<void> BytePairEncoder::append_token(Symbol symbol, std::vector<Token>& tokens) const {
  if (symbol < vocabulary_->size()) {
    tokens.push_back(static_cast<Token>(symbol));
    return {};
  }
  const std::string bytes = decode_alphabet(other_symbols_[symbol - vocabulary_->size()]);
  for (const char c : bytes) TRY(append_byte(static_cast<std::uint8_t>(c), tokens));
  return {};
}

Result<void> BytePairEncoder::append_byte(std::uint8_t byte, std::vector<Token>& tokens) const {
  const Symbol symbol = byte_symbols_[byte];
  if (symbol < vocabulary_->size()) {
    tokens.push_back(static_cast<Token>(symbol));
  } else if (vocabulary_->unknown()) {
    tokens.push_back(*vocabulary_->unknown());
  } else {
    return fail(ErrorCode::kUnsupported,
                std::format("the vocabulary has no token for the byte 0x{:02X}, nor one for the unknown", byte));
  }
  return {};
}

}  // namespace baton::text
