#include "model/vocabulary.h"

#include <gtest/gtest.h>

#include <vector>

#include "model/gguf_writer.h"

namespace baton::model {
namespace {

using text::TokenizerKind;
using text::TokenType;

class VocabularyMaker {
 public:
  explicit VocabularyMaker(std::string_view model) { writer.set<std::string_view>("tokenizer.ggml.model", model); }
  Result<text::VocabularyData> read() {
    bytes_ = writer.header();
    const GgufFile file = TRY(GgufFile::parse(bytes_, "made.gguf"));
    return read_vocabulary(file);
  }
  GgufWriter writer;

 private:
  Bytes bytes_;
};

const std::vector<std::string> kTokens{"<unk>", "a", "b"};

TEST(ReadVocabulary, TakesWhatTheKeysSay) {
  VocabularyMaker maker("llama");
  maker.writer.set_strings("tokenizer.ggml.tokens", kTokens);
  maker.writer.set_array<float>("tokenizer.ggml.scores", std::vector<float>{0, -1, -2});
  maker.writer.set_array<std::int32_t>("tokenizer.ggml.token_type", std::vector<std::int32_t>{2, 1, 0});
  maker.writer.set<std::uint32_t>("tokenizer.ggml.bos_token_id", 1);
  maker.writer.set<std::uint32_t>("tokenizer.ggml.eos_token_id", 2);
  maker.writer.set<std::uint32_t>("tokenizer.ggml.padding_token_id", 0xFFFFFFFF);
  maker.writer.set("tokenizer.ggml.add_bos_token", true);
  maker.writer.set("tokenizer.ggml.add_space_prefix", false);
  const auto data = maker.read().value();
  EXPECT_EQ(data.kind, TokenizerKind::kSentencePiece);
  EXPECT_EQ(data.tokens, kTokens);
  EXPECT_EQ(data.scores, (std::vector<float>{0, -1, -2}));
  EXPECT_EQ(data.types, (std::vector<TokenType>{TokenType::kUnknown, TokenType::kNormal, TokenType::kUnused}));
  EXPECT_EQ(data.bos, 1);
  EXPECT_EQ(data.eos, 2);
  EXPECT_EQ(data.padding, std::nullopt);
  EXPECT_EQ(data.add_bos, true);
  EXPECT_EQ(data.add_eos, std::nullopt);
  EXPECT_EQ(data.add_space_prefix, false);
}

TEST(ReadVocabulary, TakesMergesAndPreTokenizerOfByteLevelBpe) {
  VocabularyMaker maker("gpt2");
  maker.writer.set<std::string_view>("tokenizer.ggml.pre", "llama-bpe");
  maker.writer.set_strings("tokenizer.ggml.tokens", kTokens);
  maker.writer.set_strings("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  const auto data = maker.read().value();
  EXPECT_EQ(data.kind, TokenizerKind::kBytePair);
  EXPECT_EQ(data.pre, "llama-bpe");
  EXPECT_EQ(data.merges, std::vector<std::string>{"a b"});
}

TEST(ReadVocabulary, LoadsModelsWithoutText) {
  EXPECT_EQ(VocabularyMaker("test").read().value().kind, TokenizerKind::kNone);
  EXPECT_EQ(VocabularyMaker("none").read().value().kind, TokenizerKind::kNone);
  const Bytes empty = GgufWriter().header();
  EXPECT_EQ(read_vocabulary(GgufFile::parse(empty, "empty").value()).value().kind, TokenizerKind::kNone);
}

TEST(ReadVocabulary, NamesTheTokenizerItDoesNotKnow) {
  const auto data = VocabularyMaker("rwkv").read();
  ASSERT_FALSE(data);
  EXPECT_EQ(data.error().code, ErrorCode::kUnsupported);
  EXPECT_TRUE(data.error().message.contains("'rwkv'"));
}

TEST(ReadVocabulary, NamesTheKeyThatIsMissingOrWrong) {
  EXPECT_TRUE(VocabularyMaker("llama").read().error().message.contains("tokenizer.ggml.tokens"));

  VocabularyMaker without_merges("gpt2");
  without_merges.writer.set_strings("tokenizer.ggml.tokens", kTokens);
  EXPECT_TRUE(without_merges.read().error().message.contains("tokenizer.ggml.merges"));

  VocabularyMaker with_bad_type("llama");
  with_bad_type.writer.set_strings("tokenizer.ggml.tokens", kTokens);
  with_bad_type.writer.set_array<std::int32_t>("tokenizer.ggml.token_type", std::vector<std::int32_t>{1, 7, 1});
  EXPECT_TRUE(with_bad_type.read().error().message.contains("element 1 of key 'tokenizer.ggml.token_type' is 7"));

  VocabularyMaker with_bad_id("llama");
  with_bad_id.writer.set_strings("tokenizer.ggml.tokens", kTokens);
  with_bad_id.writer.set<std::int64_t>("tokenizer.ggml.bos_token_id", -2);
  EXPECT_TRUE(with_bad_id.read().error().message.contains("tokenizer.ggml.bos_token_id"));
}

TEST(ReadVocabulary, ReadsTheReferenceModels) {
  const auto kind = [](std::string_view name) {
    const auto file =
        GgufFile::open(std::string(BATON_SOURCE_DIR "/tests/reference/golden/") + std::string(name)).value();
    return read_vocabulary(file).value();
  };
  const auto llama = kind("text-llama.gguf");
  EXPECT_EQ(llama.kind, TokenizerKind::kSentencePiece);
  EXPECT_EQ(llama.tokens.at(1), "<s>");
  EXPECT_EQ(llama.types.size(), llama.tokens.size());
  EXPECT_EQ(kind("llama-dense.gguf").kind, TokenizerKind::kNone);
}

}  // namespace
}  // namespace baton::model
