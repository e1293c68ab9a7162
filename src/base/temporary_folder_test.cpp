#include "base/temporary_folder.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"

namespace baton {
namespace {

TEST(TemporaryFolder, GoesAwayWithAllThatIsInIt) {
  std::filesystem::path path;
  {
    const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
    path = folder.path();
    EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0700));
    std::filesystem::create_directory(path / "inner");
    ASSERT_TRUE(write_file(path / "inner" / "file", as_byte_span("x")));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TemporaryFolder, IsNewEachTimeAndFollowsAMove) {
  TemporaryFolder one = TemporaryFolder::create("baton-test").value();
  const TemporaryFolder other = TemporaryFolder::create("baton-test").value();
  EXPECT_NE(one.path(), other.path());
  const auto path = one.path();
  {
    const TemporaryFolder moved = std::move(one);
    EXPECT_EQ(moved.path(), path);
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace baton
