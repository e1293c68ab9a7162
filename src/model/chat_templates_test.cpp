#include "model/chat_templates.h"

#include <gtest/gtest.h>

#include "model/gguf_writer.h"

namespace baton::model {
namespace {

TEST(ReadChatTemplates, FindsTheDefaultAndTheNamedOnes) {
  GgufWriter writer;
  writer.set<std::string_view>("tokenizer.chat_template.tool_use", "tools");
  writer.set<std::string_view>("tokenizer.chat_template", "plain");
  writer.set_strings("tokenizer.chat_templates", std::vector<std::string>{"tool_use"});
  const Bytes bytes = writer.header();
  const auto file = GgufFile::parse(bytes, "made.gguf");
  ASSERT_TRUE(file);
  EXPECT_EQ(read_chat_template(*file), "plain");
  EXPECT_EQ(read_chat_template(*file, "tool_use"), "tools");
  const auto missing = read_chat_template(*file, "rag");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().to_string(), "made.gguf: the model has no chat template 'rag', only 'tool_use' 'default'");
}

TEST(ReadChatTemplates, SaysThatThereIsNone) {
  GgufWriter writer;
  const Bytes bytes = writer.header();
  const auto file = GgufFile::parse(bytes, "made.gguf");
  ASSERT_TRUE(file);
  const auto missing = read_chat_template(*file);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(missing.error().to_string(), "made.gguf: the model has no chat template");
}

TEST(ReadChatTemplates, RefusesOneThatIsNoText) {
  GgufWriter writer;
  writer.set<std::uint32_t>("tokenizer.chat_template", 1);
  const Bytes bytes = writer.header();
  const auto file = GgufFile::parse(bytes, "made.gguf");
  ASSERT_TRUE(file);
  const auto wrong = read_chat_template(*file);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace baton::model
