// A priority queue for merging: by rank, then by position. There are many entries but few ranks at a time, and those of
// one rank mostly arrive from left to right, so each rank has a list of its own and only the ranks form a heap.
#pragma once

#include <cstdint>
#include <vector>

namespace baton::text {

class MergeQueue {
 public:
  struct Entry {
    std::uint32_t rank;
    std::uint32_t position;
  };

  bool empty() const { return ranks_.empty(); }
  void push(Entry entry);
  // The entry of lowest rank, the leftmost of those. Needs !empty().
  Entry pop();

 private:
  struct Bucket {
    std::vector<std::uint32_t> in_order;
    std::size_t next = 0;             // the first of in_order that is still there
    std::vector<std::uint32_t> late;  // a heap of those that came after one further right, the smallest on top
  };
  std::uint32_t bucket_of(std::uint32_t rank);

  std::vector<std::uint32_t> bucket_of_rank_;
  std::vector<Bucket> buckets_;
  std::vector<std::uint32_t> ranks_;  // a heap of the ranks that have entries, the lowest on top
};

}  // namespace baton::text
