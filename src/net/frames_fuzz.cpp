// Feeds a stream, cut at places that the input chooses, to the frame reader.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "net/frames.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace baton::net;
  if (size == 0) return 0;
  const std::size_t step = 1 + data[0];
  FrameReader reader;
  std::size_t delivered = 0;
  for (std::size_t at = 1; at < size;) {
    const auto space = reader.space();
    const std::size_t part = std::min({step, size - at, space.size()});
    if (part == 0) std::abort();
    std::memcpy(space.data(), data + at, part);
    reader.filled(part);
    at += part;
    while (true) {
      const auto frame = reader.next();
      if (!frame) return 0;
      if (!*frame) break;
      delivered += kFrameLengthBytes + (*frame)->size();
      // A frame is exactly the input's bytes at its place.
      if (delivered > at - 1 ||
          std::memcmp((*frame)->data(), data + 1 + delivered - (*frame)->size(), (*frame)->size()) != 0) {
        std::abort();
      }
    }
  }
  return 0;
}
