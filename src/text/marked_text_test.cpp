#include "text/marked_text.h"

#include <gtest/gtest.h>

namespace baton::text {
namespace {

MarkedText example() {
  MarkedText text;
  text.append("own ");
  text.append("<s>", Origin::kForeign);
  text.append(" own ");
  text.append("</s>", Origin::kForeign);
  return text;
}

TEST(MarkedText, IsCutWithItsMarks) {
  MarkedText text = example();
  text.cut_to(100);
  EXPECT_EQ(text.foreign(), (std::vector<TextRange>{{4, 7}, {12, 16}}));
  text.cut_to(14);
  EXPECT_EQ(text.bytes(), "own <s> own </");
  EXPECT_EQ(text.foreign(), (std::vector<TextRange>{{4, 7}, {12, 14}}));
  text.cut_to(12);
  EXPECT_EQ(text.foreign(), (std::vector<TextRange>{{4, 7}}));
  text.cut_to(0);
  EXPECT_TRUE(text.bytes().empty());
  EXPECT_TRUE(text.foreign().empty());
}

}  // namespace
}  // namespace baton::text
