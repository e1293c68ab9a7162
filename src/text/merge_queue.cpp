#include "text/merge_queue.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace baton::text {
namespace {

constexpr std::uint32_t kNoBucket = std::numeric_limits<std::uint32_t>::max();

void push_smallest_first(std::vector<std::uint32_t>& heap, std::uint32_t value) {
  heap.push_back(value);
  std::ranges::push_heap(heap, std::greater<>());
}

void pop_smallest(std::vector<std::uint32_t>& heap) {
  std::ranges::pop_heap(heap, std::greater<>());
  heap.pop_back();
}

}  // namespace

std::uint32_t MergeQueue::bucket_of(std::uint32_t rank) {
  if (rank >= bucket_of_rank_.size()) {
    bucket_of_rank_.resize(std::max<std::size_t>(rank + 1UL, bucket_of_rank_.size() * 2), kNoBucket);
  }
  std::uint32_t& bucket = bucket_of_rank_[rank];
  if (bucket == kNoBucket) {
    bucket = static_cast<std::uint32_t>(buckets_.size());
    buckets_.emplace_back();
  }
  return bucket;
}

void MergeQueue::push(Entry entry) {
  Bucket& bucket = buckets_[bucket_of(entry.rank)];
  if (bucket.in_order.empty()) push_smallest_first(ranks_, entry.rank);
  if (bucket.in_order.empty() || entry.position >= bucket.in_order.back()) {
    bucket.in_order.push_back(entry.position);
  } else {
    push_smallest_first(bucket.late, entry.position);
  }
}

MergeQueue::Entry MergeQueue::pop() {
  const std::uint32_t rank = ranks_.front();
  Bucket& bucket = buckets_[bucket_of_rank_[rank]];
  const bool in_order = bucket.next < bucket.in_order.size();
  std::uint32_t position = 0;
  if (bucket.late.empty() || (in_order && bucket.in_order[bucket.next] <= bucket.late.front())) {
    position = bucket.in_order[bucket.next++];
  } else {
    position = bucket.late.front();
    pop_smallest(bucket.late);
  }
  if (bucket.next == bucket.in_order.size() && bucket.late.empty()) {
    bucket.in_order.clear();
    bucket.next = 0;
    pop_smallest(ranks_);
  }
  return {rank, position};
}

}  // namespace baton::text
