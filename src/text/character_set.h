// Sets of characters, and the bytes of UTF-8 that they are written as.
#pragma once

#include <utility>
#include <vector>

#include "text/byte_language.h"

namespace baton::text {

inline constexpr char32_t kLastCharacter = 0x10FFFF;

class CharacterSet {
 public:
  // Both belong to it. Surrogates are no characters, and left out.
  void add(char32_t first, char32_t last);
  bool empty() const { return ranges_.empty(); }
  // All that are not in it.
  CharacterSet complement() const;
  // From one to another, apart from each other and in order.
  using Range = std::pair<char32_t, char32_t>;
  std::vector<Range> ordered() const;
  // One of them.
  ByteLanguage::Node node(ByteLanguage& language) const;

 private:
  std::vector<Range> ranges_;
};

}  // namespace baton::text
