// The folder of kept texts, and a prefix cache that leaves its texts there and finds them again.
#include "node/kept_folder.h"

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <future>
#include <optional>
#include <thread>

#include "base/temporary_folder.h"
#include "net/event_loop.h"
#include "node/prefix_fixture.h"

namespace baton::node {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPlenty = std::uint64_t{1} << 30U;

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

class KeptTexts : public PrefixFixture {
 protected:
  void SetUp() override {
    make_engine("golden/llama-dense");
    start();
  }
  void TearDown() override { stop(); }

  // As a node that starts, and one that ends.
  void start(std::uint64_t most_bytes = kPlenty, double prefill_tokens_per_s = 0) {
    open_folder(most_bytes);
    look_up(prefill_tokens_per_s);
  }
  void open_folder(std::uint64_t most_bytes = kPlenty) {
    folder_ = KeptFolder::open(path_, most_bytes, [&](net::Task task) { loop_->post(std::move(task)); }).value();
  }
  void look_up(double prefill_tokens_per_s = 0) {
    cache_ = std::make_shared<PrefixCache>(
        *engine_, std::make_unique<DiskTexts>(folder_, *engine_, digest_, prefill_tokens_per_s, most_copied_at_once_));
    settle();
    EXPECT_TRUE(cache_->knows_disk());
  }
  void stop() {
    if (cache_ != nullptr) cache_->write_all(now() + std::chrono::minutes(1)).wait();
    cache_.reset();
    folder_.reset();
  }
  // Until nothing is read or written any more, and everybody knows.
  void settle() {
    folder_->when_quiet().wait();
    loop_->post([&] { loop_->stop(); });
    loop_->run();
  }

  void keep(const std::vector<Token>& tokens) { cache_->keep(workspace_of(tokens), {tokens, all(), {}, 0}); }
  std::shared_ptr<Workspace> take(const std::vector<Token>& prompt) {
    return cache_->take(need(static_cast<std::uint32_t>(prompt.size())), prompt).value();
  }
  // As a request does, that waits for what is read back.
  std::shared_ptr<Workspace> take_from_disk(const std::vector<Token>& prompt) {
    const auto reading = read_back(prompt);
    settle();
    EXPECT_TRUE(reading->ended);
    return take(prompt);
  }
  std::shared_ptr<const ReadingBack> read_back(const std::vector<Token>& prompt) {
    return cache_->read_back(need(static_cast<std::uint32_t>(prompt.size())), prompt, nullptr, now());
  }

  // A text on its way from disk, which waits at its first piece, and all others behind it.
  std::promise<void> begin_reading() {
    const auto shape = std::make_shared<const KeptShape>(kept_shape(*engine_, digest_));
    std::promise<void> go_on;
    TakePiece take = [may_go_on = go_on.get_future().share()](const KeptPiece&, ByteSpan) {
      may_go_on.wait();
      return Result<void>();
    };
    EXPECT_TRUE(folder_->read(shape, folder_->texts_of(digest_).front()->name, std::move(take), [](const auto&) {}));
    return go_on;
  }

  // A text on its way to disk, which waits at its first piece.
  struct SlowWriting {
    std::string name;
    std::shared_ptr<std::promise<void>> go_on = std::make_shared<std::promise<void>>();
    std::shared_ptr<std::optional<Result<void>>> result = std::make_shared<std::optional<Result<void>>>();
  };
  SlowWriting begin_writing(const std::vector<Token>& tokens, KeptFolder::UsedAt used_at) {
    const auto shape = std::make_shared<const KeptShape>(kept_shape(*engine_, digest_));
    SlowWriting writing{.name = kept_file_name({tokens, all(), {}, 0})};
    FillPiece fill = [may_go_on = writing.go_on->get_future().share()](const KeptPiece&, std::span<std::byte>) {
      may_go_on.wait();
      return Result<void>();
    };
    KeptHeader header{.text = {tokens, all(), {}, 0}, .state_positions = {}};
    folder_->write(shape, std::move(header), used_at, std::move(fill),
                   [result = writing.result](const Result<void>& written) { *result = written; });
    return writing;
  }

  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(path_)) {
      if (entry.is_regular_file()) found.push_back(entry.path());
    }
    std::ranges::sort(found);
    return found;
  }
  std::uint64_t size_of_one() const { return fs::file_size(files().front()); }

  const TemporaryFolder temporary_ = TemporaryFolder::create("baton-test").value();
  const fs::path path_ = KeptFolder::path_in(temporary_.path());
  const Sha256 digest_ = sha256(as_byte_span("model"));
  std::uint64_t most_copied_at_once_ = DiskTexts::kMostCopiedAtOnce;
  std::unique_ptr<net::EventLoop> loop_ = net::EventLoop::create().value();
  std::shared_ptr<KeptFolder> folder_;
  std::shared_ptr<PrefixCache> cache_;
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

TEST_F(KeptTexts, WhatIsNotWrittenInTimeIsGivenUpThoughTheDiskHangs) {
  for (const std::uint32_t seed : {1U, 2U}) keep(text(200, seed));
  const SlowWriting disk = begin_writing(text(200, 9), KeptFolder::UsedAt::clock::now());
  LastWrites last = cache_->write_all(now() + std::chrono::milliseconds(20));
  EXPECT_LT(engine_->free_cells(), 4 * kBlock);
  last.wait();
  EXPECT_EQ(engine_->free_cells(), 4 * kBlock) << "nobody reads there any more";
  disk.go_on->set_value();
  settle();
  EXPECT_EQ(files().size(), 1U) << "the one that was under way";
}

TEST_F(KeptTexts, TheEndDoesNotWaitForADiskThatDoesNotRead) {
  keep(text(200, 1));
  stop();
  start();
  auto disk = begin_reading();
  const auto reading = read_back(text(201, 1));
  keep(text(200, 2));
  const TimePoint began = now();
  cache_->write_all(began + std::chrono::minutes(1)).wait();
  EXPECT_LT(now() - began, std::chrono::seconds(50));
  EXPECT_TRUE(reading->ended);
  EXPECT_EQ(files().size(), 2U);
  disk.set_value();
  settle();
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

TEST_F(KeptTexts, OneThatIsBeingWrittenGoesForOneThatWasUsedAfterIt) {
  keep(text(200, 1));
  stop();
  const std::uint64_t one = size_of_one();
  start(one + one / 2);
  const SlowWriting first = begin_writing(text(200, 2), KeptFolder::UsedAt::clock::now());
  EXPECT_EQ(folder_->bytes(), one) << "the text that was there has gone for it";
  const auto later = KeptFolder::UsedAt::clock::now();
  EXPECT_FALSE(folder_->has_place_for(one, later - std::chrono::hours(1)));
  ASSERT_TRUE(folder_->has_place_for(one, later));
  const SlowWriting second = begin_writing(text(200, 3), later);
  EXPECT_EQ(folder_->bytes(), one);
  first.go_on->set_value();
  second.go_on->set_value();
  settle();
  EXPECT_EQ((*first.result)->error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(**second.result);
  ASSERT_EQ(files().size(), 1U);
  EXPECT_EQ(files().front().filename().string(), second.name);
  EXPECT_EQ(folder_->bytes(), one);
}

TEST_F(KeptTexts, ATextIsListedOnceThoughItIsWrittenTwiceAtOnce) {
  const SlowWriting first = begin_writing(text(200), KeptFolder::UsedAt::clock::now());
  const SlowWriting second = begin_writing(text(200), KeptFolder::UsedAt::clock::now());
  first.go_on->set_value();
  second.go_on->set_value();
  settle();
  EXPECT_TRUE(**second.result);
  EXPECT_EQ(folder_->texts_of(digest_).size(), 1U);
  EXPECT_EQ(folder_->bytes(), size_of_one());
  folder_->forget(digest_);
  EXPECT_EQ(folder_->bytes(), 0U);
}

TEST_F(KeptTexts, OneOfARemovedModelIsNotWrittenToItsEnd) {
  const SlowWriting writing = begin_writing(text(200), KeptFolder::UsedAt::clock::now());
  folder_->forget(digest_);
  writing.go_on->set_value();
  settle();
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(folder_->bytes(), 0U);
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

TEST_F(KeptTexts, OneThatIsNotReadInTimeIsGivenUpThoughTheDiskHangs) {
  keep(text(900));
  stop();
  start();
  auto disk = begin_reading();
  const auto use = std::make_shared<char>();
  const auto reading = cache_->read_back(need(901), text(901), use, now());
  ASSERT_FALSE(reading->ended);
  EXPECT_EQ(engine_->free_cells(), 0U);
  const auto until = cache_->end_late_readings(now());
  ASSERT_TRUE(until);
  EXPECT_LE(*until - now(), std::chrono::minutes(1)) << "an answer waits twice as long for room";
  EXPECT_FALSE(reading->ended);
  EXPECT_FALSE(cache_->end_late_readings(*until));
  EXPECT_TRUE(reading->ended);
  EXPECT_EQ(use.use_count(), 1);
  EXPECT_EQ(engine_->free_cells(), 4 * kBlock) << "there is room to compute it";
  EXPECT_TRUE(read_back(text(901))->ended) << "nobody else waits for that disk";
  disk.set_value();
  settle();
  EXPECT_EQ(cache_->cells(), 0U) << "it came too late";
  EXPECT_EQ(take_from_disk(text(901))->held().tokens, 900U) << "now the disk reads again";
}

TEST_F(KeptTexts, OneThatNobodyWaitsForAnyMoreIsNotRead) {
  keep(text(900));
  stop();
  start();
  auto disk = begin_reading();
  auto reading = read_back(text(901));
  ASSERT_FALSE(reading->ended);
  reading.reset();
  EXPECT_EQ(engine_->free_cells(), 4 * kBlock);
  disk.set_value();
  settle();
  EXPECT_EQ(cache_->cells(), 0U);
  EXPECT_EQ(take_from_disk(text(901))->held().tokens, 900U) << "the file is as good as before";
}

TEST_F(KeptTexts, NothingIsReadIntoAnEngineThatGoes) {
  keep(text(900));
  stop();
  start();
  auto disk = begin_reading();
  const auto reading = read_back(text(901));
  ASSERT_FALSE(reading->ended);
  cache_.reset();
  EXPECT_TRUE(reading->ended);
  EXPECT_EQ(engine_->free_cells(), 4 * kBlock);
  disk.set_value();
  settle();
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

TEST_F(KeptTexts, OneThatGoesWhileItIsReadIsReadToItsEnd) {
  keep(text(900));
  stop();
  start();
  const auto shape = std::make_shared<const KeptShape>(kept_shape(*engine_, digest_));
  std::promise<void> begun;
  std::promise<void> removed;
  std::size_t pieces = 0;
  std::optional<Result<void>> result;
  folder_->read(
      shape, folder_->texts_of(digest_).front()->name,
      [&, gone = removed.get_future().share()](const KeptPiece&, ByteSpan) -> Result<void> {
        if (pieces++ == 0) begun.set_value();
        gone.wait();
        return {};
      },
      [&](const Result<void>& read) { result = read; });
  begun.get_future().wait();
  folder_->forget(digest_);
  while (!files().empty()) std::this_thread::yield();
  removed.set_value();
  settle();
  ASSERT_TRUE(result);
  EXPECT_TRUE(*result) << result->error().to_string();
  EXPECT_GT(pieces, 1U);
  EXPECT_EQ(folder_->bytes(), 0U);
}

}  // namespace
}  // namespace baton::node
