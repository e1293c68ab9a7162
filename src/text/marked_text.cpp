#include "text/marked_text.h"

#include <algorithm>

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

void MarkedText::cut_to(std::size_t size) {
  if (size >= bytes_.size()) return;
  bytes_.resize(size);
  std::erase_if(foreign_, [&](const TextRange& range) { return range.begin >= size; });
  if (!foreign_.empty()) foreign_.back().end = std::min(foreign_.back().end, size);
}

}  // namespace baton::text
