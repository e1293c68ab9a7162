#include "net/frames.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>

#include "net/test_support.h"

namespace baton::net {
namespace {

Bytes announce(std::uint32_t length) {
  ByteWriter writer;
  writer.write(length);
  return std::move(writer).take();
}

void feed(FrameReader& reader, ByteSpan bytes) {
  const auto space = reader.space();
  ASSERT_GE(space.size(), bytes.size());
  std::memcpy(space.data(), bytes.data(), bytes.size());
  reader.filled(bytes.size());
}

TEST(FrameReader, FindsTheSameFramesHoweverTheStreamIsCut) {
  std::mt19937 random(7);
  std::vector<Bytes> frames;
  Bytes stream;
  const std::array sizes = {std::size_t{1}, std::size_t{3}, std::size_t{4096}, kMaxFrameBytes, kMaxFrameBytes - 1};
  for (int i = 0; i < 60; ++i) {
    frames.push_back(random_bytes(random, i % 3 == 0 ? sizes[random() % sizes.size()] : 1 + random() % 50000));
    const Bytes length = announce(static_cast<std::uint32_t>(frames.back().size()));
    stream.insert(stream.end(), length.begin(), length.end());
    stream.insert(stream.end(), frames.back().begin(), frames.back().end());
  }
  for (const std::size_t most : {std::size_t{7}, std::size_t{1000}, std::size_t{16384}, std::size_t{300000}}) {
    FrameReader reader;
    std::size_t found = 0;
    for (std::size_t at = 0; at < stream.size();) {
      const auto space = reader.space();
      ASSERT_GE(space.size(), kRecordBytes);
      const std::size_t size = std::min({space.size(), 1 + random() % most, stream.size() - at});
      std::memcpy(space.data(), stream.data() + at, size);
      reader.filled(size);
      at += size;
      while (true) {
        const auto frame = reader.next();
        ASSERT_TRUE(frame) << frame.error().to_string();
        if (!*frame) break;
        ASSERT_LT(found, frames.size());
        ASSERT_TRUE(std::ranges::equal(**frame, frames[found]));
        ++found;
      }
    }
    EXPECT_EQ(found, frames.size());
    EXPECT_EQ(reader.held(), 0u);
  }
}

TEST(FrameReader, RefusesALengthAsSoonAsItIsKnown) {
  for (const std::uint32_t length : {0u, static_cast<std::uint32_t>(kMaxFrameBytes) + 1, 0x80000000u, 0xffffffffu}) {
    FrameReader reader;
    feed(reader, announce(length));
    const auto frame = reader.next();
    ASSERT_FALSE(frame) << length;
    EXPECT_EQ(frame.error().code, ErrorCode::kProtocol);
  }
}

struct FrameQueue {
  std::deque<OutFrame> frames;
  FrameGatherer::Source source() {
    return [this]() -> std::optional<OutFrame> {
      if (frames.empty()) return std::nullopt;
      OutFrame frame = std::move(frames.front());
      frames.pop_front();
      return frame;
    };
  }
};

TEST(FrameGatherer, WritesLengthHeaderAndPayloadsOneAfterAnother) {
  std::mt19937 random(11);
  FrameQueue queue;
  std::vector<Bytes> sources;
  sources.reserve(200);
  Bytes expected;
  for (int i = 0; i < 100; ++i) {
    OutFrame frame;
    const Bytes header = random_bytes(random, random() % (OutFrame::kMaxHeaderBytes + 1));
    frame.set_header(header);
    for (ByteSpan& payload : frame.payload) {
      sources.push_back(random_bytes(random, i % 4 == 0 ? random() % 130000 : random() % 200));
      payload = sources.back();
    }
    if (frame.size() == 0) continue;
    const Bytes length = announce(static_cast<std::uint32_t>(frame.size()));
    for (const ByteSpan part : {ByteSpan(length), ByteSpan(header), frame.payload[0], frame.payload[1]}) {
      expected.insert(expected.end(), part.begin(), part.end());
    }
    queue.frames.push_back(std::move(frame));
  }
  FrameGatherer gatherer;
  Bytes written;
  int short_pieces = 0;
  while (true) {
    const ByteSpan piece = must(gatherer.next_piece(queue.source()));
    if (piece.empty()) break;
    if (piece.size() < kRecordBytes) ++short_pieces;
    written.insert(written.end(), piece.begin(), piece.end());
    gatherer.released();
  }
  EXPECT_EQ(written, expected);
  EXPECT_EQ(short_pieces, 1) << "only the last piece may be short";
}

TEST(FrameGatherer, TakesLargePayloadsWithoutCopying) {
  const Bytes payload(10 * kRecordBytes);
  FrameQueue queue;
  queue.frames.emplace_back().payload[0] = payload;
  FrameGatherer gatherer;
  int direct = 0;
  while (true) {
    const ByteSpan piece = must(gatherer.next_piece(queue.source()));
    if (piece.empty()) break;
    if (piece.data() >= payload.data() && piece.data() < payload.data() + payload.size()) ++direct;
    gatherer.released();
  }
  EXPECT_EQ(direct, 9);
}

TEST(FrameGatherer, KeepsThePayloadUntilItsLastPieceIsReleased) {
  // Both end with a piece that lies in the payload itself.
  for (const std::size_t size : {2 * kRecordBytes - kFrameLengthBytes, 9 * kRecordBytes - kFrameLengthBytes}) {
    FrameQueue queue;
    queue.frames.push_back(OutFrame::owning(Bytes(size)));
    const std::weak_ptr<const void> payload = queue.frames.front().keep_alive;
    FrameGatherer gatherer;
    std::size_t left = size + kFrameLengthBytes;
    while (left > 0) {
      EXPECT_FALSE(payload.expired());
      left -= must(gatherer.next_piece(queue.source())).size();
      EXPECT_FALSE(payload.expired());
      gatherer.released();
    }
    EXPECT_TRUE(payload.expired()) << size;
  }
}

TEST(FrameGatherer, LetsGoInTheMiddleOfAFrame) {
  FrameQueue queue;
  queue.frames.push_back(OutFrame::owning(Bytes(3 * kRecordBytes)));
  const std::weak_ptr<const void> payload = queue.frames.front().keep_alive;
  FrameGatherer gatherer;
  ASSERT_FALSE(must(gatherer.next_piece(queue.source())).empty());
  gatherer.released();
  EXPECT_FALSE(payload.expired());
  gatherer.clear();
  EXPECT_TRUE(payload.expired());
}

TEST(FrameGatherer, RefusesFramesThatMayNotBeSent) {
  for (const std::size_t size : {std::size_t{0}, kMaxFrameBytes + 1}) {
    FrameQueue queue;
    queue.frames.push_back(OutFrame::owning(Bytes(size)));
    FrameGatherer gatherer;
    const auto piece = gatherer.next_piece(queue.source());
    ASSERT_FALSE(piece);
    EXPECT_EQ(piece.error().code, ErrorCode::kInternal);
  }
}

}  // namespace
}  // namespace baton::net
