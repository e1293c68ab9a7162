#include "model/vocabulary.h"

#include <algorithm>
#include <format>
#include <string>

#include "base/ascii.h"

namespace baton::model {

namespace {

using text::TokenizerKind;
using text::TokenType;

Result<std::vector<std::string>> read_strings(const GgufFile& file, std::string_view key) {
  const auto views = TRY(file.get_array<std::string_view>(key));
  return std::vector<std::string>(views.begin(), views.end());
}

Result<std::vector<TokenType>> read_types(const GgufFile& file) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const auto numbers = TRY(file.get_array<std::int64_t>(kKey));
  std::vector<TokenType> types;
  types.reserve(numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    // Converters write 0, "undefined", for tokens that nobody uses.
    const std::int64_t number = numbers[i] == 0 ? static_cast<std::int64_t>(TokenType::kUnused) : numbers[i];
    if (number < static_cast<std::int64_t>(TokenType::kNormal) ||
        number > static_cast<std::int64_t>(TokenType::kByte)) {
      return file.error(ErrorCode::kCorrupt,
                        std::format("element {} of key '{}' is {}, which is no type of token", i, kKey, number));
    }
    types.push_back(static_cast<TokenType>(number));
  }
  return types;
}

// Converters write -1 (as u32: the largest number) for "there is none".
Result<std::optional<Token>> read_id(const GgufFile& file, std::string_view key) {
  const auto number = TRY(file.find<std::int64_t>(key));
  if (!number || *number == -1 || *number == 0xFFFFFFFF) return std::nullopt;
  if (*number < 0 || *number > std::numeric_limits<Token>::max()) {
    return file.error(ErrorCode::kCorrupt, std::format("key '{}' is {}, which is no token id", key, *number));
  }
  return static_cast<Token>(*number);
}

Result<void> read_ids(const GgufFile& file, text::VocabularyData& data) {
  data.bos = TRY(read_id(file, "tokenizer.ggml.bos_token_id"));
  data.eos = TRY(read_id(file, "tokenizer.ggml.eos_token_id"));
  data.eot = TRY(read_id(file, "tokenizer.ggml.eot_token_id"));
  data.unknown = TRY(read_id(file, "tokenizer.ggml.unknown_token_id"));
  data.padding = TRY(read_id(file, "tokenizer.ggml.padding_token_id"));
  data.add_bos = TRY(file.find<bool>("tokenizer.ggml.add_bos_token"));
  data.add_eos = TRY(file.find<bool>("tokenizer.ggml.add_eos_token"));
  data.add_space_prefix = TRY(file.find<bool>("tokenizer.ggml.add_space_prefix"));
  return {};
}

// GGUF cannot say which special tokens swallow white space, so llama.cpp goes by the model's name, and so must we.
Result<void> mark_stripping_tokens(const GgufFile& file, text::VocabularyData& data) {
  const std::string name = ascii_lower(TRY(file.get_or<std::string_view>("general.name", "")));
  if (!name.contains("phi-3") && !name.contains("phi3")) return {};
  for (std::size_t i = 0; i < data.tokens.size() && i < data.types.size(); ++i) {
    const std::string& token = data.tokens[i];
    const bool special = data.types[i] == TokenType::kControl || data.types[i] == TokenType::kUserDefined;
    const bool kept = token == "<unk>" || token == "<s>" || token == "<|endoftext|>";
    if ((special || token == "</s>") && !kept) data.strip_right.push_back(static_cast<Token>(i));
  }
  return {};
}

}  // namespace

Result<text::VocabularyData> read_vocabulary(const GgufFile& file) {
  text::VocabularyData data;
  const std::string_view model = TRY(file.get_or<std::string_view>("tokenizer.ggml.model", "none"));
  if (model == "llama") {
    data.kind = TokenizerKind::kSentencePiece;
  } else if (model == "gpt2") {
    data.kind = TokenizerKind::kBytePair;
  } else if (model != "none" && model != "test") {
    return file.error(
        ErrorCode::kUnsupported,
        std::format("key 'tokenizer.ggml.model' names the tokenizer '{}', but only llama and gpt2 are supported",
                    model.substr(0, 40)));
  }
  const bool has_text = data.kind != TokenizerKind::kNone;
  if (has_text || file.has("tokenizer.ggml.tokens")) data.tokens = TRY(read_strings(file, "tokenizer.ggml.tokens"));
  if (file.has("tokenizer.ggml.scores")) data.scores = TRY(file.get_array<float>("tokenizer.ggml.scores"));
  if (file.has("tokenizer.ggml.token_type")) data.types = TRY(read_types(file));
  if (data.kind == TokenizerKind::kBytePair) data.merges = TRY(read_strings(file, "tokenizer.ggml.merges"));
  data.pre = TRY(file.get_or<std::string_view>("tokenizer.ggml.pre", ""));
  TRY(read_ids(file, data));
  TRY(mark_stripping_tokens(file, data));
  return data;
}

}  // namespace baton::model
