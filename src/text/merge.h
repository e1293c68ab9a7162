// The heart of both tokenizers: of all neighbouring symbols that may merge, the pair of best rank does, the leftmost of
// equals first, until none may.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "text/merge_queue.h"

namespace baton::text {

using Symbol = std::uint32_t;
inline constexpr Symbol kNoSymbol = std::numeric_limits<Symbol>::max();

// What two neighbours become. A lower rank merges first.
struct Merge {
  static constexpr std::uint32_t kNever = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t rank = kNever;
  Symbol product = kNoSymbol;
};

// From pairs of symbols to merges: open addressing, since a text asks it twice for every byte.
class MergeTable {
 public:
  MergeTable();
  // The first entry for a pair stays.
  void add(Symbol left, Symbol right, Merge merge);
  Merge find(Symbol left, Symbol right) const;

 private:
  struct Slot {
    std::uint64_t key;
    Merge merge;
  };
  static constexpr std::uint64_t kEmpty = std::numeric_limits<std::uint64_t>::max();
  std::size_t slot_of(std::uint64_t key) const;
  void grow();

  std::vector<Slot> slots_;
  std::size_t count_ = 0;
  unsigned shift_ = 0;
};

// Merges words one after the other; keeps its memory between them. Borrows the table. O(n log n) in a word's symbols.
class Merger {
 public:
  explicit Merger(const MergeTable& table) : table_(&table) {}
  // Appends what the symbols merge to. `symbols` is spoilt.
  void merge(std::vector<Symbol>& symbols, std::vector<Symbol>& out);

 private:
  struct Node {
    Symbol symbol;
    std::uint32_t previous;
    std::uint32_t next;
    Merge merge;  // with the next node
  };
  void merge_short(std::vector<Symbol>& symbols, std::vector<Symbol>& out);
  void merge_long(std::span<const Symbol> symbols, std::vector<Symbol>& out);
  void enqueue_pair(std::uint32_t position);

  const MergeTable* table_;
  std::vector<Merge> pairs_;
  std::vector<Node> nodes_;
  MergeQueue queue_;
};

}  // namespace baton::text
