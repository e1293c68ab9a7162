// What models are counted in: tokens and layers.
#pragma once

#include <cstdint>

namespace baton {

using Token = std::int32_t;

// Layers begin..end, end not included, as in "0:16" split at layer 16.
struct LayerRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  std::uint32_t size() const { return end - begin; }
  bool empty() const { return begin >= end; }
  bool contains(std::uint32_t layer) const { return layer >= begin && layer < end; }
  bool operator==(const LayerRange&) const = default;
};

}  // namespace baton
