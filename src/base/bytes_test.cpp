#include "base/bytes.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace baton
