#include "text/merge.h"

#include <algorithm>

namespace baton::text {
namespace {

constexpr std::size_t kFirstSlotsLog2 = 10;
// Below this a scan for the best pair is faster than a queue.
constexpr std::size_t kShortWord = 40;
constexpr std::uint32_t kNoNode = std::numeric_limits<std::uint32_t>::max();

std::uint64_t pair_key(Symbol left, Symbol right) { return (static_cast<std::uint64_t>(left) << 32) | right; }

}  // namespace

MergeTable::MergeTable() : slots_(1UL << kFirstSlotsLog2, Slot{kEmpty, {}}), shift_(64 - kFirstSlotsLog2) {}

std::size_t MergeTable::slot_of(std::uint64_t key) const {
  constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15ULL;
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = ((key ^ (key >> 29)) * kGolden) >> shift_;
  while (slots_[slot].key != key && slots_[slot].key != kEmpty) slot = (slot + 1) & mask;
  return slot;
}

void MergeTable::add(Symbol left, Symbol right, Merge merge) {
  if (count_ * 2 >= slots_.size()) grow();
  const std::uint64_t key = pair_key(left, right);
  Slot& slot = slots_[slot_of(key)];
  if (slot.key == key) return;
  slot = {key, merge};
  ++count_;
}

Merge MergeTable::find(Symbol left, Symbol right) const {
  const std::uint64_t key = pair_key(left, right);
  const Slot& slot = slots_[slot_of(key)];
  return slot.key == key ? slot.merge : Merge{};
}

void MergeTable::grow() {
  std::vector<Slot> old(slots_.size() * 2, Slot{kEmpty, {}});
  old.swap(slots_);
  --shift_;
  for (const Slot& slot : old) {
    if (slot.key != kEmpty) slots_[slot_of(slot.key)] = slot;
  }
}

void Merger::merge(std::vector<Symbol>& symbols, std::vector<Symbol>& out) {
  if (symbols.size() <= kShortWord) {
    merge_short(symbols, out);
  } else {
    merge_long(symbols, out);
  }
}

void Merger::merge_short(std::vector<Symbol>& symbols, std::vector<Symbol>& out) {
  pairs_.clear();
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) pairs_.push_back(table_->find(symbols[i], symbols[i + 1]));
  while (!pairs_.empty()) {
    const auto best = std::ranges::min_element(pairs_, {}, &Merge::rank);
    if (best->rank == Merge::kNever) break;
    const auto i = static_cast<std::size_t>(best - pairs_.begin());
    symbols[i] = best->product;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    pairs_.erase(best);
    if (i < pairs_.size()) pairs_[i] = table_->find(symbols[i], symbols[i + 1]);
    if (i > 0) pairs_[i - 1] = table_->find(symbols[i - 1], symbols[i]);
  }
  out.insert(out.end(), symbols.begin(), symbols.end());
}

void Merger::enqueue_pair(std::uint32_t position) {
  Node& left = nodes_[position];
  left.merge = left.next == kNoNode ? Merge{} : table_->find(left.symbol, nodes_[left.next].symbol);
  if (left.merge.rank != Merge::kNever) queue_.push({left.merge.rank, position});
}

void Merger::merge_long(std::span<const Symbol> symbols, std::vector<Symbol>& out) {
  const auto count = static_cast<std::uint32_t>(symbols.size());
  nodes_.resize(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    nodes_[i] = {symbols[i], i == 0 ? kNoNode : i - 1, i + 1 == count ? kNoNode : i + 1, {}};
  }
  for (std::uint32_t i = 0; i < count; ++i) enqueue_pair(i);
  while (!queue_.empty()) {
    const auto [rank, position] = queue_.pop();
    Node& node = nodes_[position];
    // A pair that has changed since has an entry of its own; a swallowed node never merges.
    if (node.merge.rank != rank) continue;
    Node& swallowed = nodes_[node.next];
    node.symbol = node.merge.product;
    node.next = swallowed.next;
    swallowed.merge = {};
    if (node.next != kNoNode) nodes_[node.next].previous = position;
    enqueue_pair(position);
    if (node.previous != kNoNode) enqueue_pair(node.previous);
  }
  for (std::uint32_t i = 0; i != kNoNode; i = nodes_[i].next) out.push_back(nodes_[i].symbol);
}

}  // namespace baton::text
