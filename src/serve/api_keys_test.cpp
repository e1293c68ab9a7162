#include "serve/api_keys.h"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "base/file.h"
#include "base/temporary_folder.h"

namespace baton::serve {
namespace {

class ApiKeys : public testing::Test {
 protected:
  std::string content() const { return read_text_file(book_).value(); }
  void write(const std::string& text) const { std::ofstream(book_) << text; }

  TemporaryFolder folder_ = TemporaryFolder::create("baton-test").value();
  std::filesystem::path book_ = key_book_path(folder_.path());
};

TEST_F(ApiKeys, AreKnownByWhatWasShownOnce) {
  const std::string laptop = create_api_key(book_, "laptop").value();
  const std::string phone = create_api_key(book_, "phone").value();
  EXPECT_NE(laptop, phone);
  EXPECT_GE(laptop.size(), 32U);
  KeyRing ring({"a-key-of-somebody"}, book_);
  EXPECT_EQ(ring.owner_of(laptop), "laptop");
  EXPECT_EQ(ring.owner_of(phone), "phone");
  EXPECT_EQ(ring.owner_of("a-key-of-somebody"), "#0");
  EXPECT_EQ(ring.owner_of(laptop + "x"), std::nullopt);
  EXPECT_EQ(ring.owner_of(""), std::nullopt);
}

TEST_F(ApiKeys, AreAllKeptWhereSeveralAreMadeAtOnce) {
  constexpr int kEach = 10;
  const auto make = [&](const std::string& whose) {
    for (int i = 0; i < kEach; ++i) EXPECT_TRUE(create_api_key(book_, whose + std::to_string(i)));
  };
  std::thread other([&] { make("other"); });
  make("own");
  other.join();
  EXPECT_EQ(read_key_book(book_)->size(), std::size_t{2 * kEach});
}

TEST_F(ApiKeys, AreNotInTheFile) {
  const std::string key = create_api_key(book_, "laptop").value();
  EXPECT_FALSE(content().contains(key));
  EXPECT_FALSE(content().contains(key.substr(6)));
  EXPECT_EQ(std::filesystem::status(book_).permissions() & std::filesystem::perms::mask,
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(ApiKeys, CountAsSoonAsTheyAreMadeAndNoLongerThanTheyAreThere) {
  KeyRing ring({}, book_);
  EXPECT_EQ(ring.owner_of("nothing yet"), std::nullopt);
  const std::string key = create_api_key(book_, "laptop").value();
  EXPECT_EQ(ring.owner_of(key), "laptop");
  ASSERT_TRUE(remove_api_key(book_, "laptop"));
  EXPECT_EQ(ring.owner_of(key), std::nullopt);
  const std::string again = create_api_key(book_, "laptop").value();
  EXPECT_EQ(ring.owner_of(again), "laptop");
  std::filesystem::remove(book_);
  EXPECT_EQ(ring.owner_of(again), std::nullopt);
}

TEST_F(ApiKeys, StayAsTheyWereWhereTheFileIsDamaged) {
  const std::string key = create_api_key(book_, "laptop").value();
  KeyRing ring({}, book_);
  EXPECT_EQ(ring.owner_of(key), "laptop");
  write("nonsense");
  EXPECT_EQ(ring.owner_of(key), "laptop");
}

TEST_F(ApiKeys, HaveNamesThatAreTheirOwn) {
  ASSERT_TRUE(create_api_key(book_, "laptop"));
  EXPECT_EQ(create_api_key(book_, "laptop").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(create_api_key(book_, "two words").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(create_api_key(book_, "").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(remove_api_key(book_, "phone").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(read_key_book(book_)->size(), 1U);
}

TEST_F(ApiKeys, NameTheLineThatIsDamaged) {
  ASSERT_TRUE(create_api_key(book_, "laptop"));
  const std::string good = content();
  for (const std::string& line : {std::string("x"), std::string(64, 'a') + " 12", std::string(64, 'a') + " 1x name",
                                  std::string(63, 'a') + " 12 name", std::string(64, 'a') + " 12 two words"}) {
    write(good + line + "\n");
    const auto read = read_key_book(book_);
    ASSERT_FALSE(read) << line;
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
    EXPECT_TRUE(read.error().message.contains("line 3")) << read.error().message;
  }
  write("something else\n");
  EXPECT_EQ(read_key_book(book_).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace baton::serve
