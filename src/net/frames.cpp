#include "net/frames.h"

#include <algorithm>
#include <cstring>
#include <format>

namespace baton::net {

std::span<std::byte> FrameReader::space() {
  if (!buffer_) buffer_ = std::make_unique_for_overwrite<std::byte[]>(kCapacity);
  if (begin_ == end_) begin_ = end_ = 0;
  if (begin_ + wanted_ > kCapacity || kCapacity - end_ < kRecordBytes) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, held());
    end_ -= begin_;
    begin_ = 0;
  }
  return {buffer_.get() + end_, kCapacity - end_};
}

Result<std::optional<ByteSpan>> FrameReader::next() {
  if (held() < kFrameLengthBytes) {
    wanted_ = kFrameLengthBytes;
    return std::nullopt;
  }
  std::uint32_t length = 0;
  std::memcpy(&length, buffer_.get() + begin_, sizeof length);
  if (length == 0 || length > kMaxFrameBytes) {
    return fail(ErrorCode::kProtocol,
                std::format("the peer announced a frame of {} bytes; 1 to {} are allowed", length, kMaxFrameBytes));
  }
  wanted_ = kFrameLengthBytes + length;
  if (held() < wanted_) return std::nullopt;
  const ByteSpan frame(buffer_.get() + begin_ + kFrameLengthBytes, length);
  begin_ += wanted_;
  wanted_ = kFrameLengthBytes;
  return frame;
}

Result<bool> FrameGatherer::take_frame(const Source& source) {
  frame_ = source();
  if (!frame_) return false;
  const std::size_t size = frame_->size();
  if (size == 0 || size > kMaxFrameBytes) {
    frame_.reset();
    return fail(ErrorCode::kInternal,
                std::format("a frame of {} bytes was to be sent; 1 to {} are allowed", size, kMaxFrameBytes));
  }
  const auto length = static_cast<std::uint32_t>(size);
  std::memcpy(lead_.data(), &length, sizeof length);
  std::ranges::copy(frame_->header(), lead_.begin() + kFrameLengthBytes);
  segments_ = {ByteSpan(lead_).first(kFrameLengthBytes + frame_->header().size()), frame_->payload[0],
               frame_->payload[1]};
  segment_ = 0;
  offset_ = 0;
  return true;
}

void FrameGatherer::advance(std::size_t size) {
  offset_ += size;
  while (segment_ < segments_.size() && offset_ == segments_[segment_].size()) {
    ++segment_;
    offset_ = 0;
  }
}

Result<ByteSpan> FrameGatherer::next_piece(const Source& source) {
  std::size_t gathered = 0;
  while (gathered < kRecordBytes) {
    if (segment_ == segments_.size()) {
      // What was gathered so far is a copy, so the frame it came from may go.
      frame_.reset();
      if (!TRY(take_frame(source))) break;
    }
    const ByteSpan part = rest();
    if (gathered == 0 && part.size() >= kRecordBytes) {
      advance(kRecordBytes);
      return part.first(kRecordBytes);
    }
    const std::size_t size = std::min(part.size(), kRecordBytes - gathered);
    std::memcpy(gathered_.data() + gathered, part.data(), size);
    gathered += size;
    advance(size);
  }
  return ByteSpan(gathered_).first(gathered);
}

void FrameGatherer::released() {
  if (segment_ == segments_.size()) frame_.reset();
}

void FrameGatherer::clear() {
  segment_ = segments_.size();
  offset_ = 0;
  frame_.reset();
}

}  // namespace baton::net
