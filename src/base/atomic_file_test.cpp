#include "base/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <iterator>

#include "base/file.h"
#include "base/temporary_folder.h"

namespace baton {
namespace {

std::size_t files_in(const std::filesystem::path& folder) {
  const std::filesystem::directory_iterator files(folder);
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

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

TEST(AtomicFile, RemovesWhatAKilledWriterOfTheSameFileLeft) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  const auto path = folder.path() / "file";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto file = AtomicFile::create(path);
    ::_exit(file && file->write(as_byte_span("half")) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_EQ(files_in(folder.path()), 1U);
  const auto other = folder.path() / "file.12.x.part";
  ASSERT_TRUE(write_file(other, as_byte_span("somebody's own")));
  auto living = AtomicFile::create(path).value();
  EXPECT_EQ(files_in(folder.path()), 2U) << "the one that is written and the one that only looks like it";
  auto second = AtomicFile::create(path).value();
  EXPECT_EQ(files_in(folder.path()), 3U) << "what is being written stays";
  ASSERT_TRUE(living.commit());
  EXPECT_TRUE(std::filesystem::exists(path));
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
