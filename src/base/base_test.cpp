#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "base/atomic_file.h"
#include "base/bytes.h"
#include "base/digest.h"
#include "base/error_table.h"
#include "base/file.h"
#include "base/process.h"
#include "base/temporary_folder.h"

namespace baton {
namespace {

TEST(ByteReader, ReadsWhatByteWriterWrote) {
  ByteWriter writer;
  writer.write<std::uint32_t>(7);
  writer.write_string<std::uint16_t>("baton");
  ByteReader reader(writer.bytes());
  EXPECT_EQ(reader.read<std::uint32_t>().value(), 7u);
  EXPECT_EQ(reader.read_string<std::uint16_t>().value(), "baton");
  EXPECT_EQ(reader.remaining(), 0u);
}

TEST(ByteReader, FailsPastTheEndAndMovesNothing) {
  ByteWriter writer;
  writer.write<std::uint64_t>(1'000'000);
  writer.write<std::uint8_t>(1);
  ByteReader reader(writer.bytes());
  const auto text = reader.read_string<std::uint64_t>();
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(reader.position(), 0u);
}

// The digests of the empty string and "abc": FIPS 180-2 and xxHash's own XXH3 test value for the empty input.
TEST(Digest, MatchesPublishedVectors) {
  EXPECT_EQ(sha256(as_byte_span("abc")).hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(checksum({}), 0x2d06800538d394c2ULL);
}

TEST(Digest, ChecksumInPartsEqualsTheWhole) {
  const std::string text(10'000, 'x');
  Checksum parts;
  parts.update(as_byte_span(text).first(1));
  parts.update(as_byte_span(text).subspan(1));
  EXPECT_EQ(parts.value(), checksum(as_byte_span(text)));
}

TEST(Digest, ChecksumsOfACopyGoOnByThemselves) {
  Checksum one;
  one.update(as_byte_span("ab"));
  Checksum other = one;
  one.update(as_byte_span("c"));
  other.update(as_byte_span("d"));
  EXPECT_EQ(one.value(), checksum(as_byte_span("abc")));
  EXPECT_EQ(other.value(), checksum(as_byte_span("abd")));
}

TEST(Digest, RefusesWhatIsNoDigest) {
  EXPECT_FALSE(Sha256::parse("abc"));
  EXPECT_FALSE(Sha256::parse("zz"));
  EXPECT_TRUE(Sha256::parse(Sha256{}.hex()));
}

TEST(Digest, Sha256InPartsEqualsTheWhole) {
  const std::string text(100'000, 'x');
  Sha256Stream parts;
  parts.update(as_byte_span(text).first(77));
  parts.update(as_byte_span(text).subspan(77));
  EXPECT_EQ(parts.value(), sha256(as_byte_span(text)));
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

TEST(AtomicFile, LeavesNothingWhenAbandoned) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  {
    auto file = AtomicFile::create(folder.path() / "file").value();
    ASSERT_TRUE(file.write(as_byte_span("half")));
    const AtomicFile moved = std::move(file);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

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

TEST(ChildProcess, GivesItsLinesAndItsStatus) {
  auto child = ChildProcess::start({"/bin/sh", "-c", "echo one; echo two; exit 3"});
  ASSERT_TRUE(child);
  const TimePoint deadline = now() + std::chrono::seconds(10);
  EXPECT_EQ(child->read_line(deadline).value(), "one");
  const auto finished = child->finish(deadline);
  ASSERT_TRUE(finished);
  EXPECT_EQ(finished->output, "two\n");
  EXPECT_EQ(finished->status, 3);
}

TEST(ChildProcess, AnswersWithinItsDeadline) {
  auto child = ChildProcess::start({"/bin/sh", "-c", "exec sleep 100"});
  ASSERT_TRUE(child);
  EXPECT_EQ(child->read_line(now() + std::chrono::milliseconds(20)).error().code, ErrorCode::kTimeout);
}

TEST(ChildProcess, GivesUpOnOneThatClosesItsOutputAndRunsOn) {
  auto child = ChildProcess::start({"/bin/sh", "-c", "exec sleep 100 >&-"});
  ASSERT_TRUE(child);
  EXPECT_EQ(child->finish(now() + std::chrono::milliseconds(100)).error().code, ErrorCode::kTimeout);
}

}  // namespace
}  // namespace baton
