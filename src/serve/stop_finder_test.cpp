#include "serve/stop_finder.h"

#include <gtest/gtest.h>

namespace baton::serve {
namespace {

// What comes out of a text given in pieces of `size` bytes.
std::string through(StopFinder& finder, std::string_view text, std::size_t size) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += size) out += finder.push(text.substr(at, size));
  return out + finder.finish();
}

TEST(StopFinder, FindsAStopTextHoweverItIsCut) {
  for (std::size_t size = 1; size < 12; ++size) {
    StopFinder finder({"STOP"});
    EXPECT_EQ(through(finder, "one STO two STSTOP three", size), "one STO two ST") << size;
    EXPECT_EQ(finder.stopped(), "STOP");
  }
}

TEST(StopFinder, GivesOutAtOnceWhatCannotBeAStopText) {
  StopFinder finder({"\n\n"});
  EXPECT_EQ(finder.push("line"), "line");
  EXPECT_EQ(finder.push("\n"), "");
  EXPECT_EQ(finder.push("next"), "\nnext");
  EXPECT_FALSE(finder.stopped());
}

TEST(StopFinder, GivesOutWhatItHeldBackAtTheEnd) {
  StopFinder finder({"</end>"});
  EXPECT_EQ(finder.push("a </en"), "a ");
  EXPECT_EQ(finder.finish(), "</en");
}

TEST(StopFinder, TakesTheStopTextThatComesFirst) {
  StopFinder finder({"later", "so"});
  EXPECT_EQ(finder.push("it is so much later"), "it is ");
  EXPECT_EQ(finder.stopped(), "so");
  EXPECT_EQ(finder.push("more"), "");
  EXPECT_EQ(finder.finish(), "");
}

TEST(StopFinder, LetsEverythingThroughWithoutStopTexts) {
  StopFinder finder({});
  EXPECT_EQ(through(finder, "any text", 3), "any text");
}

}  // namespace
}  // namespace baton::serve
