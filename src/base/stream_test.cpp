#include "base/stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "base/descriptor.h"
#include "base/file.h"
#include "base/temporary_folder.h"

namespace baton {
namespace {

void write_in_pieces(const Descriptor& to, const std::string& text) {
  for (std::size_t at = 0; at < text.size(); at += 1000) {
    const std::string piece = text.substr(at, 1000);
    ASSERT_EQ(::write(to.number(), piece.data(), piece.size()), static_cast<ssize_t>(piece.size()));
  }
}

TEST(Stream, IsReadToItsEnd) {
  const std::string text(200'000, 'x');
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Descriptor reading(ends[0]);
  std::thread writing([&, to = Descriptor(ends[1])] { write_in_pieces(to, text); });
  // As whoever opened it may have left it.
  ASSERT_EQ(::fcntl(reading.number(), F_SETFL, O_NONBLOCK), 0);
  const auto read = read_to_end(reading.number(), "it");
  writing.join();
  ASSERT_TRUE(read) << read.error().to_string();
  EXPECT_TRUE(*read == text);
}

TEST(Stream, OfAFileIsWhatIsLeftOfIt) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  ASSERT_TRUE(write_file(folder.path() / "x", as_byte_span("content")));
  const Descriptor file(::open((folder.path() / "x").c_str(), O_RDONLY));
  ASSERT_EQ(::lseek(file.number(), 3, SEEK_SET), 3);
  EXPECT_EQ(read_to_end(file.number(), "x").value(), "tent");
}

TEST(Stream, OfWhatCannotBeReadIsEmptyAndOfWhatFailsAnError) {
  const TemporaryFolder folder = TemporaryFolder::create("baton-test").value();
  const Descriptor directory(::open(folder.path().c_str(), O_RDONLY));
  EXPECT_EQ(read_to_end(directory.number(), "folder").value(), "");
  const Descriptor written(::open((folder.path() / "y").c_str(), O_WRONLY | O_CREAT, 0600));
  const auto unreadable = read_to_end(written.number(), "y");
  ASSERT_FALSE(unreadable);
  EXPECT_EQ(unreadable.error().code, ErrorCode::kIo);
  EXPECT_EQ(unreadable.error().context, "y");
}

}  // namespace
}  // namespace baton
