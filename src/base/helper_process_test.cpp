#include "base/helper_process.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

constexpr std::size_t kMaxAnswerBytes = 1 << 20;
constexpr auto kTimeout = std::chrono::seconds(10);

// Programs of the system that happen to answer: cat gives every request back as it came.
HelperProcess started(std::string_view program) {
  auto helper = HelperProcess::start(program);
  EXPECT_TRUE(helper) << helper.error().to_string();
  return std::move(*helper);
}

TEST(HelperProcess, AnswersOneRequestAfterAnother) {
  HelperProcess helper = started("/bin/cat");
  EXPECT_EQ(helper.ask("one", kMaxAnswerBytes, kTimeout), "one");
  EXPECT_EQ(helper.ask("", kMaxAnswerBytes, kTimeout), "");
  const std::string much(50'000, 'x');
  EXPECT_EQ(helper.ask(much, kMaxAnswerBytes, kTimeout), much);
  EXPECT_EQ(helper.stop(), 128 + 9);
}

TEST(HelperProcess, RefusesAnAnswerThatIsTooLarge) {
  HelperProcess helper = started("/bin/cat");
  EXPECT_EQ(helper.ask("four", 3, kTimeout).error().code, ErrorCode::kProtocol);
}

TEST(HelperProcess, SaysHowTheHelperEnded) {
  HelperProcess helper = started("/bin/false");
  EXPECT_EQ(helper.ask("anybody?", kMaxAnswerBytes, kTimeout).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(helper.stop(), 1);
}

TEST(HelperProcess, WaitsNoLongerThanItIsTold) {
  // Which answers at the end of its input.
  HelperProcess helper = started("/usr/bin/tail");
  EXPECT_EQ(helper.ask("now?", kMaxAnswerBytes, std::chrono::milliseconds(20)).error().code, ErrorCode::kTimeout);
}

TEST(HelperProcess, NamesTheProgramThatIsMissing) {
  const auto helper = HelperProcess::start("baton-nothing");
  ASSERT_FALSE(helper);
  EXPECT_EQ(helper.error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(helper.error().message.contains("'baton-nothing'")) << helper.error().message;
}

}  // namespace
}  // namespace baton
