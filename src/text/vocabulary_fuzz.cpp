// Any vocabulary at all: it is refused with an error, or it encodes text without crashing. The input lists, each with a
// length byte before it, tokens (with a type and a score), then merges, then a text.
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace {

using namespace baton;
using namespace baton::text;

std::string string_or_empty(ByteReader& reader) {
  const auto text = reader.read_string<std::uint8_t>();
  return text ? std::string(*text) : std::string();
}

VocabularyData read_data(ByteReader& reader) {
  VocabularyData data;
  const auto number = [&] { return static_cast<int>(reader.read<std::int8_t>().value_or(0)); };
  data.kind = static_cast<TokenizerKind>(static_cast<unsigned>(number()) % 3);
  data.pre = number() % 2 == 0 ? "gpt-2" : "llama-bpe";
  data.bos = number();
  data.eos = number();
  if (const int unknown = number(); unknown != 0) data.unknown = unknown;
  if (const int strip = number(); strip != 0) data.strip_left = data.strip_right = {strip};
  for (int count = number(); count > 0; --count) {
    data.types.push_back(static_cast<TokenType>(number() & 7));
    data.scores.push_back(static_cast<float>(number()));
    data.tokens.push_back(string_or_empty(reader));
  }
  for (int count = number(); count > 0; --count) data.merges.push_back(string_or_empty(reader));
  return data;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  ByteReader reader(std::as_bytes(std::span(bytes, size)));
  auto vocabulary = Vocabulary::create(read_data(reader));
  if (!vocabulary) return 0;
  const auto tokenizer = Tokenizer::create(std::move(*vocabulary));
  if (!tokenizer) return 0;
  const std::string text = string_or_empty(reader);
  for (const SpecialTokens mode : {SpecialTokens::kAsPlainText, SpecialTokens::kParse}) {
    const auto tokens = tokenizer->encode(text, mode);
    if (tokens) (void)detokenize(tokenizer->vocabulary(), *tokens);
  }
  return 0;
}
