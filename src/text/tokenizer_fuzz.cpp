// Any bytes through both tokenizers, by several pre-tokenizers, and back. The first byte chooses, the rest is the text.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "text/detokenizer.h"
#include "text/pre_tokenizer.h"
#include "text/test_vocabularies.h"
#include "text/tokenizer.h"

namespace {

using namespace baton;
using namespace baton::text;

std::vector<Tokenizer> make_tokenizers() {
  std::vector<VocabularyData> all;
  all.push_back(small_sentencepiece());
  all.back().add_space_prefix = false;
  for (const PreTokenizerSpec& spec : pre_tokenizers()) {
    all.push_back(small_byte_pair());
    all.back().pre = spec.names.front();
  }
  std::vector<Tokenizer> tokenizers;
  for (VocabularyData& data : all) {
    auto vocabulary = Vocabulary::create(std::move(data));
    if (!vocabulary) std::abort();
    auto tokenizer = Tokenizer::create(std::move(*vocabulary));
    if (!tokenizer) std::abort();
    tokenizers.push_back(std::move(*tokenizer));
  }
  return tokenizers;
}

// SentencePiece has one character for two: U+2581 comes back as a space.
std::string expected_bytes(const Vocabulary& vocabulary, std::string text) {
  if (vocabulary.kind() != TokenizerKind::kSentencePiece) return text;
  for (std::size_t at = text.find(kEscapedSpace); at != std::string::npos; at = text.find(kEscapedSpace, at)) {
    text.replace(at, kEscapedSpace.size(), " ");
  }
  return text;
}

void check(const Tokenizer& tokenizer, const std::string& text, SpecialTokens mode) {
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  const auto tokens = tokenizer.encode(text, mode);
  if (!tokens) std::abort();
  std::string bytes;
  for (const Token token : *tokens) {
    if (!vocabulary.contains(token)) std::abort();
    if (mode == SpecialTokens::kAsPlainText && vocabulary.type(token) == TokenType::kControl) std::abort();
    bytes += vocabulary.token_bytes(token);
  }
  if (bytes != expected_bytes(vocabulary, text)) std::abort();
  const std::string shown = detokenize(vocabulary, *tokens, ControlTokens::kShow);
  if (valid_prefix_length(shown) != shown.size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<Tokenizer> kTokenizers = make_tokenizers();
  if (size == 0) return 0;
  const Tokenizer& tokenizer = kTokenizers[data[0] % kTokenizers.size()];
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  check(tokenizer, text, SpecialTokens::kAsPlainText);
  check(tokenizer, text, SpecialTokens::kParse);
  return 0;
}
