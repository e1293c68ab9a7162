#include "text/marked_text.h"

namespace baton::text {

void MarkedText::append(std::string_view bytes, Origin origin) {
  const std::size_t begin = size();
  bytes_ += bytes;
  if (origin == Origin::kTemplate || bytes.empty()) return;
  if (!foreign_.empty() && foreign_.back().end == begin) {
    foreign_.back().end = size();
  } else {
    foreign_.push_back({begin, size()});
  }
}

}  // namespace baton::text
