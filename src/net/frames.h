// Frames to and from a stream of bytes, without a socket. For the sources of this room.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "base/result.h"
#include "net/connection.h"

namespace baton::net {

inline constexpr std::size_t kFrameLengthBytes = 4;
// The most plaintext that one TLS record carries (RFC 8446, 5.1).
inline constexpr std::size_t kRecordBytes = 16 * 1024;

// Cuts an incoming stream into frames where it lies: fill space(), say how much, take frames until there is none.
class FrameReader {
 public:
  // Where to put what comes next, at least kRecordBytes. Spans from next() are void afterwards.
  std::span<std::byte> space();
  void filled(std::size_t size) { end_ += size; }

  // A whole frame, or nothing yet. kProtocol for a length of 0 or above kMaxFrameBytes; that is final.
  Result<std::optional<ByteSpan>> next();

  // Bytes of a frame that has not wholly arrived.
  std::size_t held() const { return end_ - begin_; }

 private:
  // A frame of the largest size, and room to begin the next without moving much.
  static constexpr std::size_t kCapacity = kFrameLengthBytes + kMaxFrameBytes + 256 * 1024;

  std::unique_ptr<std::byte[]> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t wanted_ = kFrameLengthBytes;  // bytes from begin_ that the frame under way needs in one piece
};

// Turns frames into pieces of at most kRecordBytes: from the payload itself where a whole piece lies in it, gathered
// together where it does not.
class FrameGatherer {
 public:
  using Source = std::function<std::optional<OutFrame>()>;

  // The next piece, valid until released(); empty when the source has no more frames. kInternal when the source gives
  // an empty frame or one above kMaxFrameBytes.
  Result<ByteSpan> next_piece(const Source& source);

  // The last piece was encrypted: lets go of the payload it was taken from, if that is through.
  void released();

  // Lets go of everything, in the middle of a frame too.
  void clear();

 private:
  Result<bool> take_frame(const Source& source);
  ByteSpan rest() const { return segments_[segment_].subspan(offset_); }
  void advance(std::size_t size);

  std::optional<OutFrame> frame_;
  std::array<std::byte, kFrameLengthBytes + OutFrame::kMaxHeaderBytes> lead_;
  std::array<ByteSpan, 3> segments_;  // length and header, then the payload
  std::size_t segment_ = 3;
  std::size_t offset_ = 0;
  std::array<std::byte, kRecordBytes> gathered_;
};

}  // namespace baton::net
