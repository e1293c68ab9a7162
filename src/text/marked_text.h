// Text in which some bytes are marked as foreign: words of a conversation that spell a control token and must not be
// read as one.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace baton::text {

// Bytes [begin, end) of a text.
struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool operator==(const TextRange&) const = default;
};

enum class Origin {
  kTemplate,  // the model's own file
  kForeign,   // anybody else
};

class MarkedText {
 public:
  MarkedText() = default;

  const std::string& bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  // Not empty, sorted, disjoint and never adjacent.
  const std::vector<TextRange>& foreign() const { return foreign_; }

  void append(std::string_view bytes, Origin origin = Origin::kTemplate);
  // Gives up all but the first `size` bytes.
  void cut_to(std::size_t size);

 private:
  std::string bytes_;
  std::vector<TextRange> foreign_;
};

}  // namespace baton::text
