// A set of texts, described by a few operations and walked byte by byte.
//
// What is left of a language after a byte is its derivative (Brzozowski, "Derivatives of Regular Expressions", 1964),
// an expression of the same kind: it is the state of the walk. Equal expressions are one node, so that states meet
// again, and each transition is made once, when it is first needed. Rules may call each other, so nesting has no bound:
// what is still open is the tail of the expression.
#pragma once

#include <array>
#include <atomic>
#include <bitset>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace baton::text {

using ByteSet = std::bitset<256>;
ByteSet byte_range(std::uint8_t first, std::uint8_t last);

// Built by one thread up to close(), and walked by one thread at a time; exhausted() may be asked from any.
class ByteLanguage {
 public:
  // An expression, and thus a state.
  using Node = std::uint32_t;
  static constexpr Node kNothing = 0;  // no text at all
  static constexpr Node kEmpty = 1;    // the empty text
  static constexpr std::uint32_t kUnbounded = UINT32_MAX;
  static constexpr std::uint32_t kNever = UINT32_MAX;

  ByteLanguage();

  Node byte(char value);
  Node bytes(const ByteSet& set);
  Node literal(std::string_view text);
  Node one_of(std::vector<std::string> texts);
  Node sequence(Node first, Node then);
  Node sequence(std::initializer_list<Node> parts);
  Node either(std::vector<Node> choices);
  Node optional(Node node) { return either({node, kEmpty}); }
  Node repeat(Node node, std::uint32_t least, std::uint32_t most);
  // Any bytes up to and with the first occurrence of the mark, or in which the mark is not. It is not empty.
  Node until(std::string_view mark);
  Node without(std::string_view mark);
  // A name for what is defined later.
  Node new_rule();
  void define(Node rule, Node body);

  // Nothing is built afterwards. kUnsupported where a rule calls itself with no byte between, where no text belongs to
  // `start` at all, or where there is too much.
  Result<void> close(Node start);

  // What may follow the byte; kNothing where it cannot come. After close() every other state has a text that ends it.
  Node next(Node state, std::uint8_t byte);
  // A state in which the very same texts of up to `length` bytes may come next: counts that are larger than those can
  // reach are cut down, so that a long counted text goes through few such states. What ends it may be shorter.
  Node alike(Node state, std::uint32_t length);
  bool accepts(Node state) const { return nodes_[state].shortest == 0; }
  // Bytes of the shortest text that ends it.
  std::uint32_t shortest(Node state) const { return nodes_[state].shortest; }

  // Work is counted from here on.
  void begin_work() { work_ = 0; }
  // Too many states, or too much work at once: what next() says since then means nothing. It stays so.
  bool exhausted() const { return exhausted_.load(std::memory_order_relaxed); }

 private:
  enum class Kind : std::uint8_t { kNothing, kEmpty, kBytes, kSequence, kEither, kRepeat, kRule, kUntil, kWithout };
  struct Data {
    Kind kind = Kind::kNothing;
    // kBytes: the set; kSequence and kEither: the parts; kRepeat: what; kRule: which; kUntil and kWithout: the mark,
    // and how much of it has been seen.
    std::uint32_t a = 0;
    std::uint32_t b = 0;
    std::uint32_t least = 0;
    std::uint32_t most = 0;
    std::uint32_t shortest = kNever;
    std::uint32_t row = kNoRow;
    bool operator==(const Data& other) const {
      return kind == other.kind && a == other.a && b == other.b && least == other.least && most == other.most;
    }
  };
  struct DataHash {
    std::size_t operator()(const Data& data) const;
  };
  struct Mark {
    std::string text;
    std::vector<std::uint32_t> fallback;  // Knuth, Morris and Pratt's
  };
  using Row = std::array<Node, 256>;
  static constexpr std::uint32_t kNoRow = UINT32_MAX;
  static constexpr Node kUnknown = UINT32_MAX;

  Node make(Data data);
  std::uint32_t shortest_of(const Data& data) const;
  std::uint32_t mark_index(std::string_view mark);
  std::uint32_t mark_step(const Mark& mark, std::uint32_t seen, char byte) const;
  Node one_of_sorted(const std::vector<std::string>& texts, std::size_t begin, std::size_t end, std::size_t depth);
  void collect(Node node, std::uint8_t byte, Node tail, std::vector<Node>& found);
  Result<void> refuse_left_recursion() const;
  void find_shortest();

  std::vector<Data> nodes_;
  std::unordered_map<Data, Node, DataHash> index_;
  std::vector<ByteSet> sets_;
  std::unordered_map<ByteSet, std::uint32_t> set_index_;
  std::vector<Mark> marks_;
  std::vector<Node> rules_;  // their bodies
  std::vector<Row> rows_;    // transitions known, of the nodes that have any; all are forgotten when there are too many
  std::vector<Node> with_rows_;
  std::uint64_t work_ = 0;
  bool closed_ = false;
  std::atomic<bool> exhausted_ = false;
};

}  // namespace baton::text
