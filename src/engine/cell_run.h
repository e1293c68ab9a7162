// Cells that are taken, and given back when their owner goes.
#pragma once

#include <cstdint>
#include <memory>

namespace baton::engine {

class CellPool;

// Movable. It may outlive all but its pool, which it keeps.
class CellRun {
 public:
  CellRun() = default;
  // `count` cells from `first` on were taken from the pool; with none of them the pool may be null.
  CellRun(std::shared_ptr<CellPool> pool, std::uint32_t first, std::uint32_t count);
  CellRun(CellRun&& other) noexcept;
  CellRun& operator=(CellRun&& other) noexcept;
  ~CellRun();

  const std::shared_ptr<CellPool>& pool() const { return pool_; }
  std::uint32_t first() const { return first_; }
  std::uint32_t count() const { return count_; }
  // Gives back cells at its end, or takes those behind it; false where these are not free, and nothing has changed. The
  // pool must not be null.
  bool resize(std::uint32_t count);

 private:
  std::shared_ptr<CellPool> pool_;
  std::uint32_t first_ = 0;
  std::uint32_t count_ = 0;
};

}  // namespace baton::engine
