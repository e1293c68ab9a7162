#include "model/synth_vocabulary.h"

#include <format>
#include <span>
#include <string>
#include <vector>

namespace baton::model {

namespace {

constexpr std::string_view kSpace = "\u2581";  // how SentencePiece writes a space
// Roles by their names, for it is not trained to see anything. It begins an answer as it writes an earlier one, so that
// a conversation's next turn begins like the one before.
constexpr std::string_view kChatTemplate =
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}";
constexpr std::string_view kConsonants = "bcdfghjklmnprstvwxyz";
constexpr std::string_view kVowels = "aeiou";

// The GGUF numbers of token types.
constexpr std::int32_t kNormal = 1;
constexpr std::int32_t kUnknown = 2;
constexpr std::int32_t kControl = 3;
constexpr std::int32_t kByte = 6;

std::vector<std::string> fillers(std::uint32_t count) {
  std::vector<std::string> words{std::string(kSpace)};
  for (char c = 'a'; c <= 'z'; ++c) words.emplace_back(1, c);
  for (char c = '!'; c <= '~'; ++c) {
    if (c < 'a' || c > 'z') words.emplace_back(1, c);
  }
  std::vector<std::string> syllables;
  for (const char consonant : kConsonants) {
    for (const char vowel : kVowels) syllables.push_back({consonant, vowel});
  }
  words.insert(words.end(), syllables.begin(), syllables.end());
  // Each round puts a syllable behind every word of the round before.
  std::vector<std::string> stems{std::string(kSpace)};
  while (words.size() < count) {
    std::vector<std::string> longer;
    for (const std::string& stem : stems) {
      for (const std::string& syllable : syllables) longer.push_back(stem + syllable);
    }
    words.insert(words.end(), longer.begin(), longer.end());
    stems = std::move(longer);
  }
  words.resize(count);
  return words;
}

}  // namespace

void write_synth_vocabulary(GgufWriter& writer, std::uint32_t size) {
  std::vector<std::string> tokens{"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types{kUnknown, kControl, kControl};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(std::format("<0x{:02X}>", byte));
    types.push_back(kByte);
  }
  const auto words = fillers(size - kSpecialTokens);
  tokens.insert(tokens.end(), words.begin(), words.end());
  types.resize(tokens.size(), kNormal);
  std::vector<float> scores(tokens.size());
  // Longer words come later, and are to win.
  for (std::size_t i = kSpecialTokens; i < tokens.size(); ++i) {
    scores[i] = static_cast<float>(i) - static_cast<float>(tokens.size());
  }

  writer.set<std::string_view>("tokenizer.ggml.model", "llama");
  writer.set<std::string_view>("tokenizer.ggml.pre", "default");
  writer.set_strings("tokenizer.ggml.tokens", tokens);
  writer.set_array<float>("tokenizer.ggml.scores", scores);
  writer.set_array<std::int32_t>("tokenizer.ggml.token_type", types);
  writer.set<std::uint32_t>("tokenizer.ggml.unknown_token_id", 0);
  writer.set<std::uint32_t>("tokenizer.ggml.bos_token_id", 1);
  writer.set<std::uint32_t>("tokenizer.ggml.eos_token_id", 2);
  writer.set("tokenizer.ggml.add_bos_token", true);
  writer.set("tokenizer.ggml.add_eos_token", false);
  writer.set("tokenizer.ggml.add_space_prefix", true);
  writer.set("tokenizer.chat_template", kChatTemplate);
}

}  // namespace baton::model
