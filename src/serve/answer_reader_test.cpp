#include "serve/answer_reader.h"

#include <gtest/gtest.h>

#include "serve/json.h"

namespace baton::serve {
namespace {

AnswerReading reading(CallSyntax calls, ThinkSyntax thinks, std::vector<std::string> functions = {"add", "sub"}) {
  return {.syntax = {calls, thinks}, .functions = std::move(functions)};
}

// Whatever the pieces are in which an answer comes, it is read the same.
Piece read(const AnswerReading& how, std::string_view answer) {
  Piece whole;
  for (const std::size_t length : {answer.size() + 1, std::size_t{1}, std::size_t{3}, std::size_t{7}}) {
    AnswerReader reader(how);
    Piece piece;
    for (std::size_t at = 0; at < answer.size(); at += length) reader.push(answer.substr(at, length), piece);
    reader.finish(piece);
    if (length > answer.size()) {
      whole = piece;
      continue;
    }
    EXPECT_EQ(piece.text, whole.text) << length;
    EXPECT_EQ(piece.reasoning, whole.reasoning) << length;
    EXPECT_EQ(piece.calls.size(), whole.calls.size()) << length;
  }
  return whole;
}

TEST(AnswerReader, KeepsThoughtsApart) {
  const auto how = reading(CallSyntax::kHermes, ThinkSyntax::kTags, {});
  const Piece piece = read(how, "<think>\nwhy not?\n</think>\n\nBecause <think> is a word.");
  EXPECT_EQ(piece.reasoning, "why not?");
  EXPECT_EQ(piece.text, "Because <think> is a word.");
  EXPECT_EQ(read(how, "No thought. </think> at all").text, "No thought. </think> at all");
  EXPECT_EQ(read(how, "<think>never ends").reasoning, "never ends");
  EXPECT_EQ(read(how, "  <thin").text, "  <thin");
}

TEST(AnswerReader, MayBeginWithinAThought) {
  auto how = reading(CallSyntax::kNone, ThinkSyntax::kTags, {});
  how.in_thought = true;
  const Piece piece = read(how, "hm, 2 </think>Two");
  EXPECT_EQ(piece.reasoning, "hm, 2");
  EXPECT_EQ(piece.text, "Two");
}

TEST(AnswerReader, ReadsCallsBetweenTags) {
  const auto how = reading(CallSyntax::kHermes, ThinkSyntax::kTags);
  const Piece piece =
      read(how,
           "<think>both</think>I ask.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 2, \"a\": "
           "[1]}}\n</tool_call>\n<tool_call>{\"name\":\"sub\",\"arguments\":{}}</tool_call>\n");
  EXPECT_EQ(piece.reasoning, "both");
  EXPECT_EQ(piece.text, "I ask.");
  ASSERT_EQ(piece.calls.size(), 2U);
  EXPECT_EQ(piece.calls[0].name, "add");
  EXPECT_EQ(piece.calls[0].arguments, R"({"b":2,"a":[1]})");
  EXPECT_EQ(piece.calls[1].name, "sub");
  EXPECT_NE(piece.calls[0].id, piece.calls[1].id);
}

TEST(AnswerReader, LeavesWhatIsNoCallAsText) {
  const auto how = reading(CallSyntax::kHermes, ThinkSyntax::kNone);
  for (const std::string_view text : {"<tool_call>{\"name\": 3}</tool_call>", "<tool_call>not json</tool_call>",
                                      "<tool_call>{\"name\": \"add\"", "a <tool_cal b", "1 < 2"}) {
    const Piece piece = read(how, text);
    EXPECT_EQ(piece.text, text);
    EXPECT_TRUE(piece.calls.empty());
  }
  // Nobody asked for calls.
  const std::string call = R"(<tool_call>{"name":"add","arguments":{}}</tool_call>)";
  EXPECT_EQ(read(reading(CallSyntax::kHermes, ThinkSyntax::kNone, {}), call).text, call);
}

TEST(AnswerReader, ReadsAListOfCalls) {
  const auto how = reading(CallSyntax::kMistral, ThinkSyntax::kNone);
  const Piece piece =
      read(how, R"([TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}, {"name": "sub", "arguments": {}}])");
  EXPECT_EQ(piece.text, "");
  ASSERT_EQ(piece.calls.size(), 2U);
  EXPECT_EQ(piece.calls[0].arguments, R"({"a":1})");
  EXPECT_EQ(piece.calls[0].id.size(), 9U);
  EXPECT_EQ(read(how, "[TOOL_CALLS] [1]").text, "[TOOL_CALLS] [1]");
}

TEST(AnswerReader, ReadsACallThatIsTheWholeAnswer) {
  const auto how = reading(CallSyntax::kLlama, ThinkSyntax::kNone);
  for (const std::string_view text :
       {R"({"name": "add", "parameters": {"a": "x"}})", R"(<|python_tag|>{"name": "add", "parameters": {"a": "x"}})"}) {
    const Piece piece = read(how, text);
    ASSERT_EQ(piece.calls.size(), 1U);
    EXPECT_EQ(piece.calls[0].arguments, R"({"a":"x"})");
    EXPECT_EQ(piece.text, "");
  }
  // JSON that only looks like it.
  const std::string other = R"({"name": "Ada", "parameters": {}})";
  EXPECT_EQ(read(how, other).text, other);
  EXPECT_EQ(read(how, "no { call }").text, "no { call }");
}

TEST(AnswerReader, ReadsMessagesInChannels) {
  const auto how = reading(CallSyntax::kHarmony, ThinkSyntax::kHarmony);
  const Piece said =
      read(how,
           "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>final<|message|>"
           "It is <b>four</b>.");
  EXPECT_EQ(said.reasoning, "Let me see.");
  EXPECT_EQ(said.text, "It is <b>four</b>.");
  for (const std::string_view call : {R"(<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a":1})",
                                      R"( to=functions.add<|channel|>commentary json<|message|>{"a":1})"}) {
    const Piece piece = read(how, call);
    ASSERT_EQ(piece.calls.size(), 1U) << call;
    EXPECT_EQ(piece.calls[0].name, "add");
    EXPECT_EQ(piece.calls[0].arguments, R"({"a":1})");
    EXPECT_EQ(piece.text, "");
  }
}

TEST(AnswerSyntax, IsReadFromTheTemplate) {
  EXPECT_EQ(read_answer_syntax("{{ '<tool_call>' }}").calls, CallSyntax::kHermes);
  EXPECT_EQ(read_answer_syntax("{{ '<tool_call>' }} <arg_key>").calls, CallSyntax::kNone);
  EXPECT_EQ(read_answer_syntax("[TOOL_CALLS]").calls, CallSyntax::kMistral);
  EXPECT_EQ(read_answer_syntax("'ipython' \"parameters\"").calls, CallSyntax::kLlama);
  EXPECT_EQ(read_answer_syntax("<|channel|> <|message|>").thinks, ThinkSyntax::kHarmony);
  EXPECT_EQ(read_answer_syntax("plain").thinks, ThinkSyntax::kNone);
  EXPECT_TRUE(ends_in_thought({CallSyntax::kNone, ThinkSyntax::kTags}, "<|assistant|><think>\n"));
  EXPECT_FALSE(ends_in_thought({CallSyntax::kNone, ThinkSyntax::kTags}, "<think></think>\n"));
}

}  // namespace
}  // namespace baton::serve
