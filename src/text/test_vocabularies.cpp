#include "text/test_vocabularies.h"

#include <format>

#include "text/byte_alphabet.h"

namespace baton::text {
namespace {

void add_merge(VocabularyData& data, std::string_view left, std::string_view right) {
  data.merges.push_back(std::format("{} {}", left, right));
  add_token(data, std::format("{}{}", left, right), TokenType::kNormal);
}

}  // namespace

VocabularyData small_sentencepiece() {
  VocabularyData data;
  data.kind = TokenizerKind::kSentencePiece;
  data.unknown = add_token(data, "<unk>", TokenType::kUnknown);
  data.bos = add_token(data, "<s>", TokenType::kControl);
  data.eos = add_token(data, "</s>", TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) add_token(data, std::format("<0x{:02X}>", byte), TokenType::kByte);
  float score = 0.0F;
  for (const std::string_view piece :
       {"▁▁", "▁▁▁▁", "aa", "aaaa", "he", "ll", "llo", "▁h", "hello", "▁hello", "né", "▁", "h",
        "e",  "l",    "o",  "n",    "é",  "a",  "b",   "<",  ">",     "s",      "/",  "\n"}) {
    add_token(data, std::string(piece), TokenType::kNormal, score);
    score -= 1.0F;
  }
  return data;
}

VocabularyData small_byte_pair() {
  VocabularyData data;
  data.kind = TokenizerKind::kBytePair;
  data.pre = "gpt-2";
  for (unsigned byte = 0; byte < 256; ++byte) {
    add_token(data, std::string(byte_to_alphabet(static_cast<std::uint8_t>(byte))), TokenType::kNormal);
  }
  add_merge(data, "h", "e");
  add_merge(data, "l", "l");
  add_merge(data, "ll", "o");
  add_merge(data, "he", "llo");
  add_merge(data, "Ġ", "hello");
  add_merge(data, "Ġ", "Ġ");
  add_merge(data, "ĠĠ", "ĠĠ");
  add_merge(data, "Ã", "©");
  add_merge(data, "a", "a");
  add_merge(data, "aa", "aa");
  data.eos = add_token(data, "<|end|>", TokenType::kControl);
  add_token(data, "<tool>", TokenType::kUserDefined);
  return data;
}

std::string ByteSource::text(std::size_t pieces) {
  static constexpr std::string_view kPieces[] = {"hello",
                                                 " hello",
                                                 "a",
                                                 "aaaa",
                                                 " ",
                                                 "    ",
                                                 "\n",
                                                 "\r\n",
                                                 "\t",
                                                 "é",
                                                 "né",
                                                 "日本",
                                                 "👩‍👩‍👧",
                                                 "\u00A0",
                                                 "'s",
                                                 "'LL",
                                                 "123",
                                                 "12345",
                                                 "Ünï",
                                                 "don’t",
                                                 "!?",
                                                 "<|end|>",
                                                 "<s>",
                                                 "</s>",
                                                 "<0x41>",
                                                 "\xE2\x82",
                                                 "\xC3",
                                                 "\xF0\x9F",
                                                 "\xED\xA0\x80",
                                                 "\xFF",
                                                 "\x80",
                                                 "e\u0301",
                                                 "ABCdefGHI",
                                                 "١٢٣",
                                                 "हिन्दी",
                                                 "\u180E",
                                                 "\u2028"};
  std::string text;
  for (std::size_t i = 0; i < pieces; ++i) {
    if (below(5) == 0) {
      text += static_cast<char>(below(256));
    } else {
      text += kPieces[below(std::size(kPieces))];
    }
  }
  return text;
}

}  // namespace baton::text
