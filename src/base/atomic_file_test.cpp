#include "base/atomic_file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "base/temporary_folder.h"

namespace baton {
namespace {

TEST(AtomicFile, AppearsWholeAtCommitAndNotBefore) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  const auto path = folder.path() / "file";
  auto file = AtomicFile::create(path).value();
  ASSERT_TRUE(file.reserve(1'000'000));
  ASSERT_TRUE(file.write(as_byte_span("one ")));
  ASSERT_TRUE(file.write(as_byte_span("two")));
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(file.commit());
  EXPECT_EQ(read_text_file(path).value(), "one two");
}

TEST(AtomicFile, LeavesNothingWhenAbandoned) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  {
    auto file = AtomicFile::create(folder.path() / "file").value();
    ASSERT_TRUE(file.write(as_byte_span("half")));
    const AtomicFile moved = std::move(file);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace baton
