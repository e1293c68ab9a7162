// A model's vocabulary: its tokens and what they mean. Whoever reads a model file fills VocabularyData; Vocabulary
// checks it once, so that everything above may rely on it. Immutable, and so safe to read from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/layer_range.h"
#include "base/result.h"

namespace baton::text {

enum class TokenizerKind {
  kSentencePiece,  // "llama": bigrams merged by score, byte tokens for what is missing
  kBytePair,       // "gpt2": bytes merged by rank within words
  kNone,           // no text at all, only token ids
};

// The values are those of GGUF's tokenizer.ggml.token_type.
enum class TokenType : std::uint8_t {
  kUndefined = 0,  // treated as unused
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,  // matched whole in any text, before anything else
  kUnused = 5,
  kByte = 6,  // "<0x00>" to "<0xFF>"
};

// What a model file says about its vocabulary, unchecked.
struct VocabularyData {
  TokenizerKind kind = TokenizerKind::kNone;
  std::string pre;                  // name of the pre-tokenizer (kBytePair); empty means "default"
  std::vector<std::string> tokens;  // as stored: U+2581 for a space (kSentencePiece), GPT-2's byte alphabet (kBytePair)
  std::vector<float> scores;        // one per token, or empty (kSentencePiece)
  std::vector<TokenType> types;     // one per token, or empty: all normal
  std::vector<std::string> merges;  // "left right", best first (kBytePair)

  // Absent ids are absent in the model, but SentencePiece's <s>, </s> and <unk> are found by name.
  std::optional<Token> bos;
  std::optional<Token> eos;
  std::optional<Token> eot;  // end of a turn, where it is another token than eos
  std::optional<Token> unknown;
  std::optional<Token> padding;

  // Where absent, the custom of the kind and of the pre-tokenizer holds.
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::optional<bool> add_space_prefix;

  // Tokens which, parsed as special, swallow the white space before or after them (Phi-3's do so on the right).
  std::vector<Token> strip_left;
  std::vector<Token> strip_right;
};

class Vocabulary {
 public:
  // Fails with kCorrupt, naming the token, merge or id, where the parts contradict each other. A padding id out of
  // range is dropped: such files exist, and nothing here pads. End-of-turn tokens known by name become control tokens.
  static Result<Vocabulary> create(VocabularyData data);
  Vocabulary(Vocabulary&&) noexcept = default;
  Vocabulary& operator=(Vocabulary&&) noexcept = default;

  TokenizerKind kind() const { return data_.kind; }
  const std::string& pre_tokenizer() const { return data_.pre; }
  std::size_t size() const { return data_.tokens.size(); }
  bool contains(Token token) const { return token >= 0 && static_cast<std::size_t>(token) < size(); }

  // These four need contains(token).
  const std::string& stored_text(Token token) const { return data_.tokens[static_cast<std::size_t>(token)]; }
  TokenType type(Token token) const { return data_.types[static_cast<std::size_t>(token)]; }
  float score(Token token) const { return data_.scores[static_cast<std::size_t>(token)]; }
  // The bytes that the token stands for in a text; of a control or unknown token, its name.
  std::string token_bytes(Token token) const;

  // The token stored under this very text, whatever its type; of several the last.
  std::optional<Token> find(std::string_view stored_text) const;
  // The byte token of a SentencePiece vocabulary.
  std::optional<Token> byte_token(std::uint8_t byte) const { return byte_tokens_[byte]; }
  const std::vector<std::string>& merges() const { return data_.merges; }

  std::optional<Token> bos() const { return data_.bos; }
  std::optional<Token> eos() const { return data_.eos; }
  std::optional<Token> eot() const { return data_.eot; }
  std::optional<Token> unknown() const { return data_.unknown; }
  std::optional<Token> padding() const { return data_.padding; }
  bool add_bos() const { return add_bos_; }
  bool add_eos() const { return add_eos_; }
  bool add_space_prefix() const { return add_space_prefix_; }
  bool strips_left(Token token) const;
  bool strips_right(Token token) const;

  // Whether the model says by this token that its answer is over: eos, eot and the well-known names of such tokens.
  bool ends_generation(Token token) const;
  const std::vector<Token>& end_tokens() const { return end_tokens_; }
  // What the control and unknown tokens are called in a template.
  std::vector<std::string> control_texts() const;

 private:
  explicit Vocabulary(VocabularyData data) : data_(std::move(data)) {}
  Result<void> check_tokens();
  Result<void> check_merges() const;
  Result<void> index_tokens();
  Result<void> check_ids();
  void find_end_tokens();
  void choose_customs();

  VocabularyData data_;
  // Views into data_.tokens, whose strings stay where they are when a Vocabulary is moved.
  std::unordered_map<std::string_view, Token> by_text_;
  std::array<std::optional<Token>, 256> byte_tokens_{};
  std::vector<Token> end_tokens_;  // sorted
  bool add_bos_ = false;
  bool add_eos_ = false;
  bool add_space_prefix_ = false;
};

}  // namespace baton::text
