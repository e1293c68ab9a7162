#include "net/connection.h"

#include <algorithm>
#include <cassert>

namespace baton::net {

OutFrame OutFrame::owning(Bytes bytes) {
  OutFrame frame;
  auto owner = std::make_shared<const Bytes>(std::move(bytes));
  frame.payload[0] = *owner;
  frame.keep_alive = std::move(owner);
  return frame;
}

void OutFrame::set_header(ByteSpan bytes) {
  assert(bytes.size() <= kMaxHeaderBytes);
  header_size_ = std::min(bytes.size(), kMaxHeaderBytes);
  std::ranges::copy(bytes.first(header_size_), header_.begin());
}

}  // namespace baton::net
