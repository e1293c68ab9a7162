#include "serve/stop_finder.h"

#include <algorithm>
#include <utility>

namespace baton::serve {

std::string StopFinder::push(std::string_view piece) {
  if (stopped_) return {};
  held_ += piece;
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t at = held_.find(stop);
    if (at >= first) continue;
    first = at;
    stopped_ = stop;
  }
  if (stopped_) return std::exchange(held_, {}).substr(0, first);
  std::size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
      if (held_.ends_with(std::string_view(stop).substr(0, length))) keep = length;
    }
  }
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopFinder::finish() { return stopped_ ? std::string() : std::exchange(held_, {}); }

}  // namespace baton::serve
