#include "cli/dialogue.h"

#include <gtest/gtest.h>

namespace baton::cli {
namespace {

TEST(TypedLine, ACommandIsASlashAndLetters) {
  EXPECT_EQ(typed_line("/help"), TypedLine::kHelp);
  EXPECT_EQ(typed_line("/clear "), TypedLine::kClear);
  EXPECT_EQ(typed_line("/bye"), TypedLine::kBye);
  for (const std::string_view line : {"/usr", "/quit", "/clear all", "/usr is what?", "/Bye"}) {
    EXPECT_EQ(typed_line(line), TypedLine::kNoSuchCommand) << line;
  }
}

TEST(TypedLine, WhateverElseBeginsWithASlashIsAQuestion) {
  for (const std::string_view line : {"", "/", "//", "// a comment", "//bye", "/usr/bin is what?", "/etc/hosts",
                                      " /usr", " /bye", "/ 2", "/2", "help", "what does /bye do?"}) {
    EXPECT_EQ(typed_line(line), TypedLine::kQuestion) << line;
  }
}

}  // namespace
}  // namespace baton::cli
