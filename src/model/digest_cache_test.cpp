#include "model/digest_cache.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "base/file.h"
#include "base/temporary_folder.h"

namespace baton::model {
namespace {

class ModelDigest : public testing::Test {
 protected:
  ModelDigest() {
    std::filesystem::create_directories(folder_.path() / "cache");
    ::setenv("XDG_CACHE_HOME", (folder_.path() / "cache").c_str(), 1);
  }

  // Writes the model and makes it an hour old, as far as its time tells.
  void write_model(std::string_view content, int hours_old = 1) {
    ASSERT_TRUE(write_file(model_, as_byte_span(content)));
    std::filesystem::last_write_time(model_,
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(hours_old));
  }
  // Puts another digest into the kept entry, so that its use can be seen.
  void forge(const std::filesystem::path& entry) {
    std::string text = read_text_file(entry).value();
    const std::size_t digit = text.find("sha256 ") + 7;
    text[digit] = text[digit] == '0' ? '1' : '0';
    ASSERT_TRUE(write_file(entry, as_byte_span(text)));
  }

  const TemporaryFolder folder_ = TemporaryFolder::create("baton-test").value();
  std::filesystem::path model_ = folder_.path() / "model.gguf";
  std::filesystem::path entry_ = model_.string() + ".sha256";
};

TEST_F(ModelDigest, IsTheSha256OfTheFile) {
  write_model("abc");
  EXPECT_EQ(model_digest(model_).value(), sha256(as_byte_span("abc")));
  EXPECT_TRUE(std::filesystem::exists(entry_));
}

TEST_F(ModelDigest, IsComputedNoLongerThanSomebodyWantsIt) {
  write_model("");
  // Holes take no room, and hours to read.
  std::filesystem::resize_file(model_, std::uint64_t{1} << 40);
  std::stop_source stop;
  std::jthread asker([&] {
    const auto digest = model_digest(model_, stop.get_token());
    EXPECT_EQ(digest.error().code, ErrorCode::kCancelled);
  });
  stop.request_stop();
  asker.join();
  EXPECT_FALSE(std::filesystem::exists(entry_));
}

TEST_F(ModelDigest, IsTakenFromItsNeighbourTheSecondTime) {
  write_model("abc");
  const auto first = model_digest(model_).value();
  forge(entry_);
  EXPECT_NE(model_digest(model_).value(), first);
}

TEST_F(ModelDigest, IsComputedAnewWhenSizeOrTimeChange) {
  write_model("abc");
  ASSERT_TRUE(model_digest(model_));
  write_model("abcd");
  EXPECT_EQ(model_digest(model_).value(), sha256(as_byte_span("abcd")));
  write_model("efgh", 2);
  EXPECT_EQ(model_digest(model_).value(), sha256(as_byte_span("efgh")));
}

TEST_F(ModelDigest, IsNotKeptForAFileThatMayStillChange) {
  ASSERT_TRUE(write_file(model_, as_byte_span("abc")));
  EXPECT_EQ(model_digest(model_).value(), sha256(as_byte_span("abc")));
  EXPECT_FALSE(std::filesystem::exists(entry_));
}

TEST_F(ModelDigest, LeavesSomebodysOwnChecksumFileAlone) {
  write_model("abc");
  ASSERT_TRUE(write_file(entry_, as_byte_span("0123  model.gguf\n")));
  EXPECT_EQ(model_digest(model_).value(), sha256(as_byte_span("abc")));
  EXPECT_EQ(read_text_file(entry_).value(), "0123  model.gguf\n");
  // It was kept in the cache folder instead.
  ASSERT_FALSE(std::filesystem::is_empty(folder_.path() / "cache" / "baton"));
  forge(std::filesystem::directory_iterator(folder_.path() / "cache" / "baton")->path());
  EXPECT_NE(model_digest(model_).value(), sha256(as_byte_span("abc")));
}

TEST_F(ModelDigest, IgnoresADamagedEntry) {
  write_model("abc");
  ASSERT_TRUE(model_digest(model_));
  for (const std::string_view text : {"", "baton-digest 1", "baton-digest 1\nsha256 zz\n"}) {
    ASSERT_TRUE(write_file(entry_, as_byte_span(text)));
    EXPECT_EQ(model_digest(model_).value(), sha256(as_byte_span("abc")));
  }
}

TEST_F(ModelDigest, ReportsWhatCannotBeRead) {
  EXPECT_EQ(model_digest(folder_.path() / "absent").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(model_digest(folder_.path()).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton::model
