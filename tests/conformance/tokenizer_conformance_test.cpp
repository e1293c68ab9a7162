// Real vocabularies against the ids that llama.cpp gives: tests/reference/vocab/README.md says how the files are laid
// out.
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <format>
#include <string>
#include <vector>

#include "base/file.h"
#include "model/gguf.h"
#include "model/vocabulary.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace baton {
namespace {

namespace fs = std::filesystem;

// The vectors in the tree, and a larger set beside it where there is one.
std::vector<fs::path> vector_folders() {
  const fs::path source = BATON_SOURCE_DIR;
  std::vector<fs::path> folders{source / "tests/reference/vocab"};
  if (const fs::path shared = source.parent_path() / "shared/vocab"; fs::exists(shared)) folders.push_back(shared);
  return folders;
}

std::string read(const fs::path& path) {
  auto text = read_text_file(path);
  EXPECT_TRUE(text) << text.error().to_string();
  return text.value_or("");
}

std::vector<std::string> read_texts(const fs::path& path) {
  constexpr std::string_view kEnd = "\n__ggml_vocab_test__\n";
  const std::string all = read(path);
  std::vector<std::string> texts;
  for (std::size_t begin = 0, end = 0; (end = all.find(kEnd, begin)) != std::string::npos; begin = end + kEnd.size()) {
    texts.push_back(all.substr(begin, end - begin));
  }
  EXPECT_FALSE(texts.empty()) << path;
  return texts;
}

std::vector<std::vector<Token>> read_ids(const fs::path& path) {
  std::vector<std::vector<Token>> lines(1);
  const std::string all = read(path);
  for (const char *place = all.data(), *end = place + all.size(); place < end;) {
    Token token = 0;
    const auto [next, error] = std::from_chars(place, end, token);
    if (error == std::errc()) {
      lines.back().push_back(token);
      place = next;
    } else if (*place++ == '\n') {
      lines.emplace_back();
    }
  }
  lines.pop_back();
  return lines;
}

text::VocabularyData read_vocabulary(const fs::path& path) {
  auto file = model::GgufFile::open(path);
  EXPECT_TRUE(file) << file.error().to_string();
  auto data = model::read_vocabulary(*file);
  EXPECT_TRUE(data) << data.error().to_string();
  return std::move(*data);
}

text::Tokenizer make_tokenizer(text::VocabularyData data) {
  auto vocabulary = text::Vocabulary::create(std::move(data));
  EXPECT_TRUE(vocabulary) << vocabulary.error().to_string();
  auto tokenizer = text::Tokenizer::create(std::move(*vocabulary));
  EXPECT_TRUE(tokenizer) << tokenizer.error().to_string();
  return std::move(*tokenizer);
}

void expect_ids(const text::Tokenizer& tokenizer, const std::vector<std::string>& texts, const fs::path& answers) {
  const auto ids = read_ids(answers);
  ASSERT_EQ(texts.size(), ids.size()) << answers;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto tokens = tokenizer.encode(texts[i], text::SpecialTokens::kAsPlainText);
    ASSERT_TRUE(tokens) << tokens.error().to_string();
    EXPECT_EQ(*tokens, ids[i]) << answers << ", text " << i << ": " << texts[i];
    EXPECT_EQ(text::detokenize(tokenizer.vocabulary(), *tokens), texts[i]) << answers << ", text " << i;
  }
}

TEST(TokenizerConformance, EveryVocabularyGivesTheReferencesIds) {
  for (const fs::path& folder : vector_folders()) {
    int vocabularies = 0;
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("ggml-vocab-") || !name.ends_with(".gguf")) continue;
      const text::Tokenizer tokenizer = make_tokenizer(read_vocabulary(entry.path()));
      expect_ids(tokenizer, read_texts(folder / (name + ".inp")), folder / (name + ".out"));
      const std::string short_name = name.substr(11, name.size() - 16);
      expect_ids(tokenizer, read_texts(folder / "extra.inp"), folder / (short_name + ".extra.out"));
      ++vocabularies;
    }
    EXPECT_GE(vocabularies, 3) << folder;
  }
}

TEST(TokenizerConformance, EveryPreTokenizerGivesTheReferencesIds) {
  for (const fs::path& folder : vector_folders()) {
    const text::VocabularyData gpt2 = read_vocabulary(folder / "ggml-vocab-gpt-2.gguf");
    std::vector<std::string> texts = read_texts(folder / "ggml-vocab-gpt-2.gguf.inp");
    std::ranges::copy(read_texts(folder / "extra.inp"), std::back_inserter(texts));
    int pre_tokenizers = 0;
    for (const auto& entry : fs::directory_iterator(folder / "pre")) {
      const std::string name = entry.path().stem().string();
      text::VocabularyData data = gpt2;
      data.pre = name.substr(name.find('+') + 1);
      expect_ids(make_tokenizer(std::move(data)), texts, entry.path());
      ++pre_tokenizers;
    }
    EXPECT_GE(pre_tokenizers, 8) << folder;
  }
}

// A continuation is what a stream shows: token by token it must add up to the text, whole characters at a time.
TEST(TokenizerConformance, StreamedTextAddsUpToTheText) {
  const fs::path folder = vector_folders().front();
  for (const std::string name : {"llama-spm", "phi-3", "gpt-2"}) {
    const fs::path path = folder / std::format("ggml-vocab-{}.gguf", name);
    const text::Tokenizer tokenizer = make_tokenizer(read_vocabulary(path));
    for (const std::string& text : read_texts(folder / "extra.inp")) {
      const auto tokens = tokenizer.encode(text, text::SpecialTokens::kAsPlainText);
      ASSERT_TRUE(tokens);
      text::Detokenizer detokenizer(tokenizer.vocabulary());
      std::string shown;
      for (const Token token : *tokens) {
        const std::string piece = detokenizer.push(token);
        EXPECT_EQ(text::valid_prefix_length(piece), piece.size());
        shown += piece;
      }
      EXPECT_EQ(shown + detokenizer.finish(), text);
    }
  }
}

TEST(TokenizerConformance, TemplatesControlTokensAreParsedWhereAsked) {
  const fs::path folder = vector_folders().front();
  const text::Tokenizer phi3 = make_tokenizer(read_vocabulary(folder / "ggml-vocab-phi-3.gguf"));
  const text::Vocabulary& vocabulary = phi3.vocabulary();
  const auto tokens = phi3.encode("<|user|>\nHi<|end|>", text::SpecialTokens::kParse);
  ASSERT_TRUE(tokens);
  EXPECT_EQ(tokens->front(), *vocabulary.find("<|user|>"));
  EXPECT_EQ(tokens->back(), *vocabulary.find("<|end|>"));
  EXPECT_TRUE(vocabulary.ends_generation(tokens->back()));
  EXPECT_EQ(phi3.begin_sequence(), std::vector<Token>{1});
}

}  // namespace
}  // namespace baton
