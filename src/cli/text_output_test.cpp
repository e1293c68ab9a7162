#include "cli/text_output.h"

#include <gtest/gtest.h>

namespace baton::cli {
namespace {

TEST(DurationText, HasDigitsForShortTimesToo) {
  EXPECT_EQ(duration_text(2.3149), "2.315 s");
  EXPECT_EQ(duration_text(0.1), "0.100 s");
  EXPECT_EQ(duration_text(0.01234), "12.3 ms");
  EXPECT_EQ(duration_text(0.0000456), "0.0456 ms");
}

}  // namespace
}  // namespace baton::cli
