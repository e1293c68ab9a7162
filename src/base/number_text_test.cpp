#include "base/number_text.h"

#include <gtest/gtest.h>

#include <limits>

namespace baton {
namespace {

TEST(NumberText, HasNoExponent) {
  EXPECT_EQ(number_text(130'000), "130000");
  EXPECT_EQ(number_text(123'456.7), "123457");
  EXPECT_EQ(number_text(17.26), "17.3");
  EXPECT_EQ(number_text(1), "1.00");
  EXPECT_EQ(number_text(0.04217), "0.0422");
  EXPECT_EQ(number_text(-250.4), "-250");
  EXPECT_EQ(number_text(0), "0");
}

TEST(NumberText, StandsForWhatIsNoNumber) {
  EXPECT_EQ(number_text(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(number_text(1e-300), "0.000000000");
}

}  // namespace
}  // namespace baton
