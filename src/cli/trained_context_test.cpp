#include "cli/trained_context.h"

#include <gtest/gtest.h>

namespace baton::cli {
namespace {

TEST(TrainedContext, SaysNothingWhereAllFitsOrNothingIsKnown) {
  EXPECT_EQ(context_warning(1920, 128, 2048, ContextBy::kWork).value(), "");
  EXPECT_EQ(context_warning(1920, 128, 0, ContextBy::kWork).value(), "");
}

TEST(TrainedContext, AnAnswerThatLeavesItIsWarnedAbout) {
  EXPECT_EQ(context_warning(2000, 128, 2048, ContextBy::kWork).value(),
            "the model was made for 2,048 tokens; what goes beyond them may be nonsense");
}

TEST(TrainedContext, ALongerPromptIsRefusedUnlessTheFlagAsksForIt) {
  const auto refused = context_warning(280'001, 16, 131'072, ContextBy::kWork);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message,
            "the prompt has 280,001 tokens, and the model was made for 131,072: shorten it, or give --ctx 280017 to "
            "read it all the same, which may end in nonsense");
  EXPECT_EQ(context_warning(280'001, 16, 131'072, ContextBy::kFlag).value(),
            "the prompt has 280,001 tokens, and the model was made for 131,072 tokens; what follows may be nonsense");
}

}  // namespace
}  // namespace baton::cli
