#include "text/byte_language.h"

#include <algorithm>
#include <cassert>
#include <functional>

namespace baton::text {

namespace {

// Some 50 MB, and a tenth of a second for each token: more than any form needs that a person wrote.
constexpr std::size_t kMostNodes = 1U << 19;
constexpr std::size_t kMostRows = 1U << 12;
constexpr std::uint64_t kMostWork = 1U << 19;
// Of a state, from its beginning: what stands behind them is left as it is.
constexpr std::size_t kMostPartsCutDown = 16;

constexpr std::uint32_t kNever = ByteLanguage::kNever;

std::uint32_t plus(std::uint32_t a, std::uint32_t b) { return a >= kNever - b ? kNever : a + b; }

std::uint32_t times(std::uint32_t count, std::uint32_t length) {
  if (count == 0 || length == 0) return 0;
  return length >= kNever / count ? kNever : count * length;
}

}  // namespace

ByteSet byte_range(std::uint8_t first, std::uint8_t last) {
  ByteSet set;
  for (std::size_t byte = first; byte <= last; ++byte) set.set(byte);
  return set;
}

std::size_t ByteLanguage::DataHash::operator()(const Data& data) const {
  std::uint64_t hash = static_cast<std::uint64_t>(data.kind);
  for (const std::uint32_t part : {data.a, data.b, data.least, data.most}) {
    // The golden ratio's bits spread neighbours apart.
    hash = (hash ^ part) * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 29;
  }
  return hash;
}

ByteLanguage::ByteLanguage() {
  nodes_.push_back({.kind = Kind::kNothing});
  nodes_.push_back({.kind = Kind::kEmpty, .shortest = 0});
}

ByteLanguage::Node ByteLanguage::make(Data data) {
  const auto found = index_.find(data);
  // What no text can end may have been made before that was known.
  if (found != index_.end()) return closed_ && nodes_[found->second].shortest == kNever ? kNothing : found->second;
  if (nodes_.size() >= kMostNodes) {
    exhausted_.store(true, std::memory_order_relaxed);
    return kNothing;
  }
  data.shortest = shortest_of(data);
  const Node node = closed_ && data.shortest == kNever ? kNothing : static_cast<Node>(nodes_.size());
  if (node != kNothing) nodes_.push_back(data);
  index_.emplace(data, node);
  return node;
}

std::uint32_t ByteLanguage::shortest_of(const Data& data) const {
  switch (data.kind) {
    case Kind::kNothing: return kNever;
    case Kind::kEmpty: return 0;
    case Kind::kBytes: return 1;
    case Kind::kSequence: return plus(nodes_[data.a].shortest, nodes_[data.b].shortest);
    case Kind::kEither: return std::min(nodes_[data.a].shortest, nodes_[data.b].shortest);
    case Kind::kRepeat: return times(data.least, nodes_[data.a].shortest);
    case Kind::kRule: return rules_[data.a] == kUnknown ? kNever : nodes_[rules_[data.a]].shortest;
    case Kind::kUntil: return static_cast<std::uint32_t>(marks_[data.a].text.size()) - data.b;
    case Kind::kWithout: return 0;
  }
  return kNever;
}

ByteLanguage::Node ByteLanguage::bytes(const ByteSet& set) {
  if (set.none()) return kNothing;
  const auto [found, added] = set_index_.emplace(set, static_cast<std::uint32_t>(sets_.size()));
  if (added) sets_.push_back(set);
  return make({.kind = Kind::kBytes, .a = found->second});
}

ByteLanguage::Node ByteLanguage::byte(char value) {
  return bytes(byte_range(static_cast<std::uint8_t>(value), static_cast<std::uint8_t>(value)));
}

ByteLanguage::Node ByteLanguage::literal(std::string_view text) {
  Node node = kEmpty;
  for (std::size_t at = text.size(); at-- > 0;) node = sequence(byte(text[at]), node);
  return node;
}

// Common beginnings are written once, so that a long list is walked as fast as a short one.
ByteLanguage::Node ByteLanguage::one_of(std::vector<std::string> texts) {
  std::ranges::sort(texts);
  texts.erase(std::ranges::unique(texts).begin(), texts.end());
  return one_of_sorted(texts, 0, texts.size(), 0);
}

ByteLanguage::Node ByteLanguage::one_of_sorted(const std::vector<std::string>& texts, std::size_t begin,
                                               std::size_t end, std::size_t depth) {
  if (begin == end) return kNothing;
  if (end - begin == 1) return literal(std::string_view(texts[begin]).substr(depth));
  const std::string& first = texts[begin];
  const std::string& last = texts[end - 1];
  const auto parts = std::mismatch(first.begin(), first.end(), last.begin(), last.end());
  const auto common = static_cast<std::size_t>(parts.first - first.begin());
  std::vector<Node> choices;
  std::size_t from = begin;
  if (first.size() == common) {
    choices.push_back(kEmpty);
    ++from;
  }
  while (from < end) {
    std::size_t to = from;
    while (to < end && texts[to][common] == texts[from][common]) ++to;
    choices.push_back(sequence(byte(texts[from][common]), one_of_sorted(texts, from, to, common + 1)));
    from = to;
  }
  return sequence(literal(std::string_view(first).substr(depth, common - depth)), either(std::move(choices)));
}

// Leans to the right, whatever leans to the left: the first element of a sequence is never one.
ByteLanguage::Node ByteLanguage::sequence(Node first, Node then) {
  if (first == kNothing || then == kNothing) return kNothing;
  if (first == kEmpty) return then;
  if (then == kEmpty) return first;
  std::vector<Node> parts;
  while (nodes_[first].kind == Kind::kSequence) {
    parts.push_back(nodes_[first].a);
    first = nodes_[first].b;
  }
  parts.push_back(first);
  work_ += parts.size();
  Node node = then;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    node = make({.kind = Kind::kSequence, .a = *part, .b = node});
    if (node == kNothing) break;
  }
  return node;
}

ByteLanguage::Node ByteLanguage::sequence(std::initializer_list<Node> parts) {
  Node node = kEmpty;
  for (auto part = std::rbegin(parts); part != std::rend(parts); ++part) node = sequence(*part, node);
  return node;
}

// A list in a fixed order, the newest choice first: lists that grew out of one another share their ends.
ByteLanguage::Node ByteLanguage::either(std::vector<Node> choices) {
  std::vector<Node> flat;
  for (Node choice : choices) {
    if (closed_ && nodes_[choice].shortest == kNever) continue;
    for (; nodes_[choice].kind == Kind::kEither; choice = nodes_[choice].b) flat.push_back(nodes_[choice].a);
    if (choice != kNothing) flat.push_back(choice);
  }
  std::ranges::sort(flat);
  flat.erase(std::ranges::unique(flat).begin(), flat.end());
  work_ += flat.size();
  if (flat.empty()) return kNothing;
  Node node = flat.front();
  for (std::size_t at = 1; at < flat.size(); ++at) node = make({.kind = Kind::kEither, .a = flat[at], .b = node});
  return node;
}

ByteLanguage::Node ByteLanguage::repeat(Node node, std::uint32_t least, std::uint32_t most) {
  assert(least <= most);
  if (most == 0 || node == kEmpty) return kEmpty;
  if (node == kNothing) return least == 0 ? kEmpty : kNothing;
  if (least == 1 && most == 1) return node;
  return make({.kind = Kind::kRepeat, .a = node, .least = least, .most = most});
}

std::uint32_t ByteLanguage::mark_index(std::string_view mark) {
  assert(!mark.empty());
  for (std::size_t index = 0; index < marks_.size(); ++index) {
    if (marks_[index].text == mark) return static_cast<std::uint32_t>(index);
  }
  Mark made{std::string(mark), {0}};
  for (std::size_t at = 1; at < mark.size(); ++at) {
    std::uint32_t length = made.fallback.back();
    while (length > 0 && mark[length] != mark[at]) length = made.fallback[length - 1];
    made.fallback.push_back(mark[length] == mark[at] ? length + 1 : length);
  }
  marks_.push_back(std::move(made));
  return static_cast<std::uint32_t>(marks_.size() - 1);
}

std::uint32_t ByteLanguage::mark_step(const Mark& mark, std::uint32_t seen, char byte) const {
  while (seen > 0 && mark.text[seen] != byte) seen = mark.fallback[seen - 1];
  return mark.text[seen] == byte ? seen + 1 : seen;
}

ByteLanguage::Node ByteLanguage::until(std::string_view mark) {
  return make({.kind = Kind::kUntil, .a = mark_index(mark)});
}

ByteLanguage::Node ByteLanguage::without(std::string_view mark) {
  return make({.kind = Kind::kWithout, .a = mark_index(mark)});
}

ByteLanguage::Node ByteLanguage::new_rule() {
  rules_.push_back(kUnknown);
  return make({.kind = Kind::kRule, .a = static_cast<std::uint32_t>(rules_.size() - 1)});
}

void ByteLanguage::define(Node rule, Node body) {
  assert(nodes_[rule].kind == Kind::kRule);
  rules_[nodes_[rule].a] = body;
}

Result<void> ByteLanguage::close(Node start) {
  if (exhausted()) return fail(ErrorCode::kUnsupported, "the form is too large");
  find_shortest();
  if (nodes_[start].shortest == kNever) return fail(ErrorCode::kUnsupported, "no text at all has this form");
  TRY(refuse_left_recursion());
  closed_ = true;
  return {};
}

// Lengths only shrink, and settle after at most one round for each rule.
void ByteLanguage::find_shortest() {
  for (bool changed = true; changed;) {
    changed = false;
    for (Data& data : nodes_) {
      const std::uint32_t shortest = shortest_of(data);
      if (shortest == data.shortest) continue;
      data.shortest = shortest;
      changed = true;
    }
  }
}

// A rule leads to those that may come first in it.
Result<void> ByteLanguage::refuse_left_recursion() const {
  std::vector<std::vector<std::uint32_t>> leads_to(rules_.size());
  for (std::size_t rule = 0; rule < rules_.size(); ++rule) {
    std::vector<Node> open{rules_[rule]};
    std::vector<bool> seen(nodes_.size());
    while (!open.empty()) {
      const Node node = open.back();
      open.pop_back();
      if (node == kUnknown || seen[node]) continue;
      seen[node] = true;
      const Data& data = nodes_[node];
      if (data.kind == Kind::kRule) leads_to[rule].push_back(data.a);
      if (data.kind == Kind::kSequence || data.kind == Kind::kEither || data.kind == Kind::kRepeat)
        open.push_back(data.a);
      if (data.kind == Kind::kEither || (data.kind == Kind::kSequence && nodes_[data.a].shortest == 0)) {
        open.push_back(data.b);
      }
    }
  }
  // Rules that lead to none any more fall away; what stays goes in circles.
  std::vector<bool> settled(rules_.size());
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t rule = 0; rule < rules_.size(); ++rule) {
      if (settled[rule] || !std::ranges::all_of(leads_to[rule], [&](std::uint32_t to) { return settled[to]; }))
        continue;
      settled[rule] = true;
      changed = true;
    }
  }
  if (std::ranges::all_of(settled, std::identity())) return {};
  return fail(ErrorCode::kUnsupported, "the form calls itself with nothing between");
}

ByteLanguage::Node ByteLanguage::next(Node state, std::uint8_t byte) {
  assert(closed_);
  if (state == kNothing || state == kEmpty || exhausted()) return kNothing;
  if (nodes_[state].row == kNoRow) {
    if (rows_.size() >= kMostRows) {
      for (const Node node : with_rows_) nodes_[node].row = kNoRow;
      with_rows_.clear();
      rows_.clear();
    }
    nodes_[state].row = static_cast<std::uint32_t>(rows_.size());
    rows_.emplace_back().fill(kUnknown);
    with_rows_.push_back(state);
  }
  const Node known = rows_[nodes_[state].row][byte];
  if (known != kUnknown) return known;
  std::vector<Node> found;
  collect(state, byte, kEmpty, found);
  const Node after = either(std::move(found));
  if (work_ > kMostWork) exhausted_.store(true, std::memory_order_relaxed);
  // A rule within may have asked for so many that this one's row is gone.
  if (nodes_[state].row != kNoRow) rows_[nodes_[state].row][byte] = after;
  return after;
}

// Only along the state's spine: what a text has begun stands there, and what is inside of a choice or of another
// repetition has not.
ByteLanguage::Node ByteLanguage::alike(Node state, std::uint32_t length) {
  std::vector<Node> parts;
  Node rest = state;
  bool changed = false;
  const auto cut_down = [&](Node node) {
    const Data data = nodes_[node];
    // Each round takes a byte at least.
    if (data.kind != Kind::kRepeat || nodes_[data.a].shortest == 0) return node;
    const std::uint32_t least = std::min(data.least, length + 1);
    const std::uint32_t most = data.most == kUnbounded ? kUnbounded : std::min(data.most, length + 1);
    if (least == data.least && most == data.most) return node;
    changed = true;
    return repeat(data.a, least, most);
  };
  while (nodes_[rest].kind == Kind::kSequence && parts.size() < kMostPartsCutDown) {
    const Data data = nodes_[rest];
    parts.push_back(cut_down(data.a));
    rest = data.b;
  }
  if (nodes_[rest].kind != Kind::kSequence) rest = cut_down(rest);
  if (!changed) return state;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) rest = sequence(*part, rest);
  return rest;
}

void ByteLanguage::collect(Node node, std::uint8_t byte, Node tail, std::vector<Node>& found) {
  while (true) {
    if (++work_ > kMostWork || tail == kNothing) return;
    // A copy: the list may move.
    const Data data = nodes_[node];
    switch (data.kind) {
      case Kind::kNothing:
      case Kind::kEmpty: return;
      case Kind::kBytes:
        if (sets_[data.a].test(byte)) found.push_back(tail);
        return;
      case Kind::kSequence: {
        const Node after = sequence(data.b, tail);
        if (nodes_[data.a].shortest == 0) {
          collect(data.a, byte, after, found);
          node = data.b;
        } else {
          node = data.a;
          tail = after;
        }
        continue;
      }
      case Kind::kEither:
        collect(data.a, byte, tail, found);
        node = data.b;
        continue;
      case Kind::kRepeat: {
        const std::uint32_t least = data.least == 0 ? 0 : data.least - 1;
        const std::uint32_t most = data.most == kUnbounded ? kUnbounded : data.most - 1;
        tail = sequence(repeat(data.a, least, most), tail);
        node = data.a;
        continue;
      }
      case Kind::kRule: found.push_back(sequence(next(rules_[data.a], byte), tail)); return;
      case Kind::kUntil: {
        const std::uint32_t seen = mark_step(marks_[data.a], data.b, static_cast<char>(byte));
        const bool whole = seen == marks_[data.a].text.size();
        found.push_back(whole ? tail : sequence(make({.kind = Kind::kUntil, .a = data.a, .b = seen}), tail));
        return;
      }
      case Kind::kWithout: {
        const std::uint32_t seen = mark_step(marks_[data.a], data.b, static_cast<char>(byte));
        if (seen == marks_[data.a].text.size()) return;
        found.push_back(sequence(make({.kind = Kind::kWithout, .a = data.a, .b = seen}), tail));
        return;
      }
    }
  }
}

}  // namespace baton::text
