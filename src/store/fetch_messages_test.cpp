#include "store/fetch_messages.h"

#include <gtest/gtest.h>

namespace baton::store {
namespace {

Offer an_offer() {
  return {.names = {"qwen3:8b"},
          .parts = {{"a-00001-of-00002.gguf", 10, sha256(as_byte_span("a"))},
                    {"a-00002-of-00002.gguf", 20, sha256(as_byte_span("b"))}}};
}

TEST(FetchMessages, AreReadAsTheyWereWritten) {
  EXPECT_EQ(std::get<Ask>(decode(encode(Ask{"qwen3:8b"})).value()), Ask{"qwen3:8b"});
  EXPECT_EQ(std::get<Offer>(decode(encode(an_offer())).value()), an_offer());
  EXPECT_EQ(std::get<Read>(decode(encode(Read{1, 1ULL << 40})).value()), (Read{1, 1ULL << 40}));
  EXPECT_EQ(std::get<EndOfPart>(decode(encode(EndOfPart{})).value()), EndOfPart{});
  const RefusedFetch refused{{ErrorCode::kNotFound, "none\x1b[31m", {}}};
  EXPECT_EQ(std::get<RefusedFetch>(decode(encode(refused)).value()).error.message, "none?[31m");
  const Bytes frame = encode(Data{as_byte_span("bytes")});
  EXPECT_EQ(std::ranges::equal(std::get<Data>(decode(frame).value()).bytes, as_byte_span("bytes")), true);
}

TEST(FetchMessages, RefuseNamesThatLeadElsewhere) {
  for (const char* file : {"../x.gguf", "/etc/passwd", ".ssh", "manifest.json", "", "a/b"}) {
    Offer offer = an_offer();
    offer.parts[0].file = file;
    EXPECT_FALSE(decode(encode(offer))) << file;
  }
  Offer twice = an_offer();
  twice.parts[1].file = twice.parts[0].file;
  EXPECT_FALSE(decode(encode(twice)));
  EXPECT_FALSE(decode(encode(Ask{"../x"})));
  EXPECT_FALSE(decode(encode(Ask{""})));
}

TEST(FetchMessages, RefuseFramesThatAreCutOrTooLong) {
  for (const FetchMessage& message :
       {FetchMessage(Ask{"m"}), FetchMessage(an_offer()), FetchMessage(Read{}), FetchMessage(EndOfPart{})}) {
    Bytes frame = encode(message);
    frame.push_back(std::byte{0});
    EXPECT_FALSE(decode(frame));
    frame.pop_back();
    for (std::size_t size = 0; size < frame.size(); ++size) {
      const auto cut = decode(ByteSpan(frame).first(size));
      ASSERT_FALSE(cut);
      EXPECT_EQ(cut.error().code, ErrorCode::kProtocol);
    }
  }
  EXPECT_FALSE(decode(encode(Data{})));
  EXPECT_FALSE(decode(encode(Data{Bytes(kDataBytes + 1)})));
}

}  // namespace
}  // namespace baton::store
