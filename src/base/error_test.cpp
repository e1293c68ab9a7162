#include "base/error_table.h"

#include <gtest/gtest.h>

#include <set>

namespace baton {
namespace {

TEST(Error, EveryCodeHasANameAndAnExitStatusOfItsOwn) {
  std::set<std::string_view> names;
  std::set<int> statuses;
  for (const ErrorFacts& facts : all_error_codes()) {
    EXPECT_EQ(error_code_name(facts.code), facts.name);
    EXPECT_EQ(exit_code(facts.code), facts.exit_status);
    EXPECT_FALSE(facts.meaning.empty()) << facts.name;
    EXPECT_TRUE(facts.exit_status > 0 && facts.exit_status < 256) << facts.name;
    names.insert(facts.name);
    statuses.insert(facts.exit_status);
  }
  EXPECT_EQ(names.size(), all_error_codes().size());
  EXPECT_EQ(statuses.size(), all_error_codes().size());
}

}  // namespace
}  // namespace baton
