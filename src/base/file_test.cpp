#include "base/file.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/temporary_folder.h"

namespace baton {
namespace {

TEST(File, WritesWholeFilesAndMapsThem) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  const auto path = folder.path() / "file";
  ASSERT_TRUE(write_file(path, as_byte_span("content"), 0600));
  EXPECT_EQ(read_text_file(path).value(), "content");
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0600));
  std::filesystem::remove(path);
  EXPECT_EQ(MappedFile::open(path).error().code, ErrorCode::kNotFound);
}

TEST(File, ReportsWhereItCannotWrite) {
  const auto result = write_file("/nonexistent-folder/file", as_byte_span("x"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(result.error().context, "/nonexistent-folder/file");
}

}  // namespace
}  // namespace baton
