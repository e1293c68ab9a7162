// Who is next: clients take turns, and each client's items keep their order. Numbers only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <string>
#include <utility>
#include <vector>

namespace baton::serve {

template <typename Item>
class FairQueue {
 public:
  explicit FairQueue(std::size_t limit) : limit_(limit) {}

  // False, and nothing is changed, where it is full.
  bool push(const std::string& client, Item item) {
    if (size_ >= limit_) return false;
    ++size_;
    const auto line = std::ranges::find(lines_, client, &Line::client);
    if (line == lines_.end()) {
      lines_.push_back({client, {}});
      lines_.back().items.push_back(std::move(item));
    } else {
      line->items.push_back(std::move(item));
    }
    return true;
  }
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  // Not of an empty queue. The same until it is popped or removed, so that what waits for room is not overtaken.
  Item& front() { return lines_.front().items.front(); }
  Item pop() {
    Line line = std::move(lines_.front());
    lines_.pop_front();
    Item item = std::move(line.items.front());
    line.items.pop_front();
    --size_;
    if (!line.items.empty()) lines_.push_back(std::move(line));
    return item;
  }
  // Client by client.
  template <typename Visitor>
  void for_each(Visitor&& visit) const {
    for (const Line& line : lines_) {
      for (const Item& item : line.items) visit(item);
    }
  }
  // Takes out what the predicate says, in order.
  template <typename Predicate>
  std::vector<Item> remove_if(Predicate&& wanted) {
    std::vector<Item> removed;
    for (Line& line : lines_) {
      std::deque<Item> kept;
      for (Item& item : line.items)
        (wanted(std::as_const(item)) ? removed.push_back(std::move(item)) : kept.push_back(std::move(item)));
      line.items = std::move(kept);
    }
    std::erase_if(lines_, [](const Line& line) { return line.items.empty(); });
    size_ -= removed.size();
    return removed;
  }

 private:
  struct Line {
    std::string client;
    std::deque<Item> items;
  };

  const std::size_t limit_;
  std::size_t size_ = 0;
  std::deque<Line> lines_;  // whose turn comes first
};

}  // namespace baton::serve
