// Pre-tokenizers: how a byte-level vocabulary's text is cut into words before bytes are merged. Each is data: a list of
// regular expressions. The first cuts the text into its matches and what lies between, the next cuts those pieces, and
// so on. They are the expressions of the models' own tokenizers, in the reading llama.cpp gives them where it differs.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace baton::text {

// Whether a word that is a token as it stands is that token, or only what merging makes of it.
enum class WholeWords { kMerge, kTake };
// What a sequence begins with where the model's file does not say.
enum class SequenceStart { kPlain, kBos };

struct PreTokenizerSpec {
  std::span<const std::string_view> names;        // values of GGUF's tokenizer.ggml.pre
  std::span<const std::string_view> expressions;  // PCRE2 syntax
  WholeWords whole_words = WholeWords::kMerge;
  SequenceStart sequence_start = SequenceStart::kPlain;
};

// nullptr where there is none of that name. The empty name means "default".
const PreTokenizerSpec* find_pre_tokenizer(std::string_view name);
std::span<const PreTokenizerSpec> pre_tokenizers();

// Immutable; safe to use from several threads at once.
class PreTokenizer {
 public:
  static Result<PreTokenizer> create(std::string_view name);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  const PreTokenizerSpec& spec() const;

  // Appends the words of `text`, which together are all of it, as views into it. Bytes that are no UTF-8 become words
  // of their own, one for each run of them.
  Result<void> split(std::string_view text, std::vector<std::string_view>& words) const;

 private:
  struct Impl;
  explicit PreTokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace baton::text
