#include "engine/cell_run.h"

#include <utility>

#include "engine/cell_pool.h"

namespace baton::engine {

CellRun::CellRun(std::shared_ptr<CellPool> pool, std::uint32_t first, std::uint32_t count)
    : pool_(std::move(pool)), first_(first), count_(count) {}

CellRun::CellRun(CellRun&& other) noexcept
    : pool_(std::move(other.pool_)), first_(other.first_), count_(std::exchange(other.count_, 0)) {}

CellRun& CellRun::operator=(CellRun&& other) noexcept {
  CellRun taken(std::move(other));  // what was here is freed at the end of this function, not of `other`
  std::swap(pool_, taken.pool_);
  std::swap(first_, taken.first_);
  std::swap(count_, taken.count_);
  return *this;
}

bool CellRun::resize(std::uint32_t count) {
  if (count > count_ && !pool_->take_at(first_ + count_, count - count_)) return false;
  if (count < count_) pool_->give_back(first_ + count, count_ - count);
  count_ = count;
  return true;
}

CellRun::~CellRun() {
  if (pool_ != nullptr && count_ > 0) pool_->give_back(first_, count_);
}

}  // namespace baton::engine
