// The folder of kept texts, and a prefix cache that leaves its texts there and finds them again.
#include "node/kept_folder.h"

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "node/kept_texts_fixture.h"

namespace baton::node {
namespace {

namespace fs = std::filesystem;

// While it lives, no file can be opened.
class NoMoreFiles {
 public:
  NoMoreFiles() {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    struct rlimit none = before_;
    none.rlim_cur = 0;
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoMoreFiles() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }
  NoMoreFiles(const NoMoreFiles&) = delete;
  NoMoreFiles& operator=(const NoMoreFiles&) = delete;

 private:
  struct rlimit before_{};
};

TEST_F(KeptTexts, AreFoundAgainByTheNextNode) {
  keep(text(100));
  keep(text(120, 7));
  stop();
  ASSERT_EQ(files().size(), 2U);
  EXPECT_EQ(fs::status(path_).permissions(), fs::perms::owner_all);
  EXPECT_EQ(fs::status(files().front().parent_path()).permissions(), fs::perms::owner_all);
  start();
  const auto prompt = joined(text(120, 7), text(30, 3));
  const auto workspace = take_from_disk(prompt);
  EXPECT_EQ(workspace->held().tokens, 120U);
  EXPECT_EQ(go_on(*workspace, prompt), expected(prompt, 120)) << "as if it had been computed here";
}

TEST_F(KeptTexts, GoOnWhereTheyPartFromThePrompt) {
  keep(text(200));
  stop();
  start();
  const auto prompt = joined(text(64), text(30, 3));
  const auto workspace = take_from_disk(prompt);
  EXPECT_EQ(workspace->held().tokens, 64U);
  EXPECT_EQ(go_on(*workspace, prompt), expected(prompt, 64));
}

TEST_F(KeptTexts, GoToDiskWhenTheirCellsAreNeeded) {
  for (const std::uint32_t seed : {1U, 2U, 3U}) keep(text(200, seed));
  ASSERT_TRUE(take(text(2 * kBlock, 9)));
  settle();
  EXPECT_EQ(files().size(), 2U) << "the two that were used longest ago";
  EXPECT_EQ(take_from_disk(text(201, 1))->held().tokens, 200U);
}

TEST_F(KeptTexts, NoMoreIsCopiedForOneRequestThanDelaysOthersALittle) {
  keep(text(200, 1));
  stop();
  most_copied_at_once_ = size_of_one() + size_of_one() / 2;
  start();
  for (const std::uint32_t seed : {2U, 3U, 4U}) keep(text(200, seed));
  auto live = take(text(2 * kBlock, 9));
  settle();
  EXPECT_EQ(files().size(), 2U) << "one of the two that went";
  live.reset();
  // The next request may do so again.
  live = take(text(4 * kBlock, 9));
  settle();
  EXPECT_EQ(files().size(), 3U);
}

TEST_F(KeptTexts, AreWrittenAheadWhileLittleIsFree) {
  keep(text(200, 1));
  keep(text(200, 2));
  cache_->write_ahead();
  settle();
  EXPECT_TRUE(files().empty()) << "half of all cells are free";
  keep(text(200, 3));
  for (int round = 0; round < 4; ++round) {
    cache_->write_ahead();
    settle();
  }
  EXPECT_EQ(files().size(), 1U) << "now half could be had without losing anything";
  EXPECT_EQ(cache_->cells(), 3 * kBlock) << "and all are still in memory";
  // Its going costs nothing more; the next had no time.
  const fs::path first = files().front();
  const auto written = fs::last_write_time(first);
  ASSERT_TRUE(take(text(2 * kBlock, 9)));
  settle();
  EXPECT_EQ(files().size(), 2U);
  EXPECT_EQ(fs::last_write_time(first), written);
}

TEST_F(KeptTexts, OneWhoseFileHasGoneIsWrittenAgain) {
  for (const std::uint32_t seed : {1U, 2U, 3U}) keep(text(200, seed));
  cache_->write_ahead();
  settle();
  ASSERT_EQ(files().size(), 1U);
  // As another model's texts do that were used later.
  folder_->forget(digest_);
  stop();
  EXPECT_EQ(files().size(), 3U);
  start();
  for (const std::uint32_t seed : {1U, 2U, 3U}) EXPECT_EQ(take_from_disk(text(201, seed))->held().tokens, 200U) << seed;
}

TEST_F(KeptTexts, WhatIsUsedInMemoryIsUsedOnDisk) {
  for (const std::uint32_t seed : {1U, 2U, 3U}) keep(text(200, seed));
  stop();
  const std::uint64_t one = size_of_one();
  start();
  auto first = take_from_disk(text(201, 1));
  ASSERT_EQ(first->held().tokens, 200U);
  cache_->keep(std::move(first), {text(200, 1), all(), {}, 0});
  for (const std::uint32_t seed : {2U, 3U}) ASSERT_EQ(take_from_disk(text(201, seed))->held().tokens, 200U);
  // Its file is the one that was read first; from here on nothing is read.
  ASSERT_EQ(take(text(201, 1))->held().tokens, 200U);
  settle();
  stop();
  start(one);
  EXPECT_EQ(take_from_disk(text(201, 1))->held().tokens, 200U) << "it stayed";
}

TEST_F(KeptTexts, AreTakenAlsoWhileTheyAreBeingWritten) {
  keep(text(900, 1));
  const auto prompt = joined(text(900, 1), text(20, 3));
  cache_->write_ahead();
  // Whether its writing was over by now or not.
  const auto workspace = take(prompt);
  EXPECT_EQ(workspace->held().tokens, 900U);
  EXPECT_EQ(go_on(*workspace, prompt), expected(prompt, 900));
  settle();
  for (const fs::path& file : files()) EXPECT_TRUE(is_kept_file_name(file.filename().string())) << file;
}

TEST_F(KeptTexts, ALongerOneTakesThePlaceOfItsBeginning) {
  keep(text(100));
  stop();
  start();
  keep(text(150));
  stop();
  ASSERT_EQ(files().size(), 1U);
  start();
  EXPECT_EQ(take_from_disk(text(160))->held().tokens, 150U);
}

TEST_F(KeptTexts, WhatWasReadBackIsNotWrittenAgain) {
  keep(text(100));
  stop();
  const auto written = fs::last_write_time(files().front());
  start();
  auto workspace = take_from_disk(text(101));
  cache_->keep(std::move(workspace), {text(100), all(), {}, 0});
  settle();
  const auto used = fs::last_write_time(files().front());
  EXPECT_GE(used, written);
  stop();
  ASSERT_EQ(files().size(), 1U);
  EXPECT_EQ(fs::last_write_time(files().front()), used);
}

TEST_F(KeptTexts, WhatWasUsedLongestAgoGoesWhenTheSizeIsReached) {
  keep(text(200, 1));
  stop();
  const std::uint64_t one = size_of_one();
  start(3 * one + one / 2);
  for (const std::uint32_t seed : {2U, 3U}) keep(text(200, seed));
  stop();
  start(3 * one + one / 2);
  EXPECT_EQ(take_from_disk(text(201, 1))->held().tokens, 200U) << "used, and so it stays";
  keep(text(200, 4));
  stop();
  EXPECT_EQ(files().size(), 3U);
  start(3 * one + one / 2);
  EXPECT_LE(folder_->bytes(), 3 * one + one / 2);
  EXPECT_TRUE(read_back(text(201, 2))->ended) << "that one went";
  for (const std::uint32_t seed : {1U, 3U, 4U}) EXPECT_EQ(take_from_disk(text(201, seed))->held().tokens, 200U) << seed;
}

TEST_F(KeptTexts, OnlyWhatWasUsedLastIsWrittenWhereThereIsNoRoomForMore) {
  keep(text(200, 1));
  stop();
  const std::uint64_t one = size_of_one();
  start(2 * one + one / 2);
  for (const std::uint32_t seed : {2U, 3U, 4U}) keep(text(200, seed));
  stop();
  EXPECT_EQ(files().size(), 2U) << "no more than there is room for, not even for a moment";
  start(2 * one + one / 2);
  for (const std::uint32_t seed : {1U, 2U}) EXPECT_TRUE(read_back(text(201, seed))->ended) << seed;
  for (const std::uint32_t seed : {3U, 4U}) EXPECT_EQ(take_from_disk(text(201, seed))->held().tokens, 200U) << seed;
}

TEST_F(KeptTexts, TheOrderOfTheirUseOutlivesTheNode) {
  for (const std::uint32_t seed : {1U, 2U, 3U}) keep(text(200, seed));
  stop();
  const std::uint64_t one = size_of_one();
  start(2 * one + one / 2);
  EXPECT_TRUE(read_back(text(201, 1))->ended) << "what was used longest ago went";
  for (const std::uint32_t seed : {2U, 3U}) EXPECT_EQ(take_from_disk(text(201, seed))->held().tokens, 200U) << seed;
}

TEST_F(KeptTexts, AFolderThatIsTooFullAtTheStartIsMadeSmaller) {
  for (const std::uint32_t seed : {1U, 2U, 3U}) keep(text(200, seed));
  stop();
  const std::uint64_t one = size_of_one();
  start(one);
  EXPECT_EQ(files().size(), 1U);
  EXPECT_EQ(take_from_disk(text(201, 3))->held().tokens, 200U);
}

TEST_F(KeptTexts, ATextThatIsLargerThanAllIsNotWritten) {
  stop();
  start(1000);
  keep(text(200));
  stop();
  EXPECT_TRUE(files().empty());
}

TEST_F(KeptTexts, AreReadOnlyWhereThatIsFasterThanComputing) {
  keep(text(900));
  stop();
  for (const double tokens_per_s : {1e12, 1.0}) {
    start(kPlenty, tokens_per_s);
    // Nothing is known of a disk before something of some size was read.
    EXPECT_EQ(folder_->read_rate().has_value(), size_of_one() >= (1U << 20U));
    const bool computes = folder_->read_rate() && tokens_per_s > 1;
    EXPECT_EQ(take_from_disk(text(901))->held().tokens, computes ? 0U : 900U) << tokens_per_s;
    stop();
  }
}

TEST_F(KeptTexts, ABrokenFileIsRemovedAndTheTextComputed) {
  keep(text(100));
  keep(text(100, 7));
  stop();
  for (const fs::path& file : files()) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    // Of one the header, of the other a row.
    stream.seekp(file == files().front() ? 40 : static_cast<std::streamoff>(fs::file_size(file) - 100));
    stream.put('\x55');
    stream.put('\x55');
  }
  start();
  for (const std::uint32_t seed : {0U, 7U}) EXPECT_EQ(take_from_disk(text(101, seed))->held().tokens, 0U);
  settle();
  EXPECT_TRUE(fs::is_empty(path_) || files().empty());
  EXPECT_EQ(folder_->bytes(), 0U);
}

TEST_F(KeptTexts, AFileThatCannotBeReadForNowStays) {
  for (const std::uint32_t seed : {0U, 7U}) keep(text(100, seed));
  stop();
  open_folder();
  testing::internal::CaptureStderr();
  {
    const NoMoreFiles none;
    look_up();
  }
  EXPECT_EQ(take_from_disk(text(101))->held().tokens, 0U) << "it was not looked at";
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(log.contains("cannot be read for now")) << log;
  EXPECT_EQ(log.find("cannot be read"), log.rfind("cannot be read")) << "said once: " << log;
  EXPECT_EQ(files().size(), 2U);
  stop();
  start();
  std::shared_ptr<const ReadingBack> reading;
  {
    const NoMoreFiles none;
    reading = read_back(text(101));
    settle();
  }
  EXPECT_TRUE(reading->ended);
  EXPECT_EQ(files().size(), 2U);
  EXPECT_EQ(take_from_disk(text(101, 7))->held().tokens, 100U);
  EXPECT_EQ(folder_->bytes(), 2 * size_of_one());
  stop();
  start();
  EXPECT_EQ(take_from_disk(text(101))->held().tokens, 100U);
}

TEST_F(KeptTexts, AFolderThatCannotBeListedIsInTheLog) {
  keep(text(100));
  stop();
  testing::internal::CaptureStderr();
  {
    const NoMoreFiles none;
    open_folder();
  }
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(log.contains("cannot be listed: Too many open files")) << log;
  EXPECT_EQ(files().size(), 1U);
}

TEST_F(KeptTexts, AFileStaysThoughItsRowsCouldNotBeTaken) {
  keep(text(100));
  stop();
  start();
  const auto shape = std::make_shared<const KeptShape>(kept_shape(*engine_, digest_));
  const auto take_nothing = [](const KeptPiece&, ByteSpan) { return fail(ErrorCode::kCorrupt, "the device is ill"); };
  ASSERT_TRUE(folder_->read(shape, folder_->texts_of(digest_).front()->name, take_nothing, [](const auto&) {}));
  settle();
  EXPECT_EQ(take_from_disk(text(101))->held().tokens, 100U);
}

TEST_F(KeptTexts, OneThatIsWantedIsNotGivenUpForOneThatGoes) {
  keep(text(200, 1));
  stop();
  const std::uint64_t one = size_of_one();
  // Beside both there is no room for the third, which has to go to disk before the first can come back.
  start(5 * one + one / 2);
  keep(text(200, 2));
  stop();
  start(5 * one + one / 2);
  keep(text(3 * kBlock, 3));
  const auto workspace = take_from_disk(joined(text(200, 1), text(100, 5)));
  EXPECT_EQ(workspace->held().tokens, 200U);
}

TEST_F(KeptTexts, AFileThatWasTakenAwayIsNotThere) {
  keep(text(100));
  stop();
  start();
  fs::remove(files().front());
  EXPECT_EQ(take_from_disk(text(101))->held().tokens, 0U);
  EXPECT_EQ(folder_->bytes(), 0U);
}

TEST_F(KeptTexts, AFileUnderAnothersNameIsRemoved) {
  keep(text(100));
  stop();
  const fs::path file = files().front();
  fs::rename(file, file.parent_path() / (std::string(32, 'a') + ".kept"));
  start();
  settle();
  EXPECT_TRUE(files().empty());
}

TEST_F(KeptTexts, OnlyFilesOfOursAreTouched) {
  keep(text(100));
  stop();
  const fs::path ours = files().front();
  const std::vector<fs::path> others = {path_ / "notes.txt", ours.parent_path() / "notes.kept",
                                        path_ / "photos" / ours.filename()};
  fs::create_directories(path_ / "photos");
  for (const fs::path& other : others) std::ofstream(other) << "mine";
  const fs::path part = ours.string() + ".4711.0.part";
  std::ofstream(part) << "half";
  start(1);
  settle();
  EXPECT_FALSE(fs::exists(ours));
  EXPECT_FALSE(fs::exists(part)) << "left by one that was killed";
  for (const fs::path& other : others) EXPECT_TRUE(fs::exists(other)) << other;
  stop();
  ASSERT_TRUE(KeptFolder::remove(path_));
  for (const fs::path& other : others) EXPECT_TRUE(fs::exists(other)) << other;
}

TEST_F(KeptTexts, AreAllRemovedAtOnce) {
  keep(text(100));
  stop();
  EXPECT_GT(KeptFolder::bytes_in(path_), 0U);
  ASSERT_TRUE(KeptFolder::remove(path_));
  EXPECT_FALSE(fs::exists(path_));
  EXPECT_EQ(KeptFolder::bytes_in(path_), 0U);
}

TEST_F(KeptTexts, GoWithTheirModel) {
  keep(text(100));
  stop();
  start();
  folder_->forget(sha256(as_byte_span("another")));
  settle();
  EXPECT_EQ(files().size(), 1U);
  folder_->forget(digest_);
  settle();
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(take_from_disk(text(101))->held().tokens, 0U);
  stop();
  start();
  keep(text(100));
  stop();
  ASSERT_TRUE(KeptFolder::remove_model(path_, digest_));
  EXPECT_TRUE(files().empty());
}

TEST_F(KeptTexts, AFullDiskCostsNothingElse) {
  keep(text(200, 1));
  stop();
  const std::uint64_t one = size_of_one();
  start();
  // As a disk that has no room for a file of this size.
  struct rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit little = before;
  little.rlim_cur = one / 2;
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &little), 0);
  testing::internal::CaptureStderr();
  for (const std::uint32_t seed : {2U, 3U, 4U}) keep(text(200, seed));
  const auto live = take(text(3 * kBlock, 9));
  settle();
  const std::string log = testing::internal::GetCapturedStderr();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(live);
  EXPECT_TRUE(log.contains("cannot be written")) << log;
  EXPECT_EQ(log.find("cannot be written"), log.rfind("cannot be written")) << "said once: " << log;
  EXPECT_EQ(files().size(), 1U) << "nothing half-written, and what was there is";
  EXPECT_EQ(folder_->bytes(), one);
}

}  // namespace
}  // namespace baton::node
