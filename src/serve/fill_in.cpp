#include "serve/fill_in.h"

#include <format>
#include <span>
#include <string_view>

namespace baton::serve {

namespace {

// Of Qwen, StarCoder, Granite, DeepSeek, CodeLlama and CodeGemma; from their published tokenizers.
constexpr std::string_view kPrefixNames[] = {"<|fim_prefix|>",  "<fim_prefix>", "<fim-prefix>",
                                             "<｜fim▁begin｜>", "▁<PRE>",       "<PRE>"};
constexpr std::string_view kSuffixNames[] = {"<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>",
                                             "<｜fim▁hole｜>", "▁<SUF>",       "<SUF>"};
constexpr std::string_view kMiddleNames[] = {"<|fim_middle|>", "<fim_middle>", "<fim-middle>",
                                             "<｜fim▁end｜>",  "▁<MID>",       "<MID>"};
constexpr std::string_view kEndNames[] = {"<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|file_separator|>",
                                          "<fim_pad>",   "<file_sep>",   "▁<EOT>",        "<EOT>"};

Result<std::optional<Token>> find_token(const model::GgufFile& file, const text::Vocabulary& vocabulary,
                                        std::string_view key, std::span<const std::string_view> names) {
  const std::string whole_key = std::format("tokenizer.ggml.{}_token_id", key);
  const auto stated = TRY(file.find<std::int64_t>(whole_key));
  // Converters write -1 (as u32: the largest number) for "there is none".
  if (stated && *stated != -1 && *stated != 0xFFFFFFFF) {
    if (*stated < 0 || static_cast<std::uint64_t>(*stated) >= vocabulary.size()) {
      return file.error(ErrorCode::kCorrupt,
                        std::format("key '{}' is {}, which is no token of {}", whole_key, *stated, vocabulary.size()));
    }
    return static_cast<Token>(*stated);
  }
  for (const std::string_view name : names) {
    if (const auto token = vocabulary.find(name)) return token;
  }
  return std::nullopt;
}

}  // namespace

Result<std::optional<FillInTokens>> find_fill_in_tokens(const model::GgufFile& file,
                                                        const text::Vocabulary& vocabulary) {
  const auto prefix = TRY(find_token(file, vocabulary, "fim_pre", kPrefixNames));
  const auto suffix = TRY(find_token(file, vocabulary, "fim_suf", kSuffixNames));
  const auto middle = TRY(find_token(file, vocabulary, "fim_mid", kMiddleNames));
  if (!prefix || !suffix || !middle) return std::nullopt;
  FillInTokens tokens{.prefix = *prefix, .suffix = *suffix, .middle = *middle, .ends = {*prefix, *suffix, *middle}};
  for (const std::string_view name : kEndNames) {
    if (const auto token = vocabulary.find(name)) tokens.ends.push_back(*token);
  }
  return tokens;
}

}  // namespace baton::serve
