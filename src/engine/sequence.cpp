#include "engine/sequence.h"

#include <utility>

#include "engine/cell_pool.h"

namespace baton::engine {

Sequence::Sequence(std::shared_ptr<CellPool> pool, std::uint32_t first_cell, std::uint32_t cells, std::uint32_t layers)
    : pool_(std::move(pool)), first_cell_(first_cell), cells_(cells), clean_until_(layers, 0) {}

Sequence::Sequence(Sequence&& other) noexcept
    : pool_(std::move(other.pool_)),
      first_cell_(other.first_cell_),
      cells_(std::exchange(other.cells_, 0)),
      clean_until_(std::move(other.clean_until_)),
      states_(std::move(other.states_)) {}

Sequence& Sequence::operator=(Sequence&& other) noexcept {
  Sequence taken(std::move(other));  // what was here is freed at the end of this function, not of `other`
  std::swap(pool_, taken.pool_);
  std::swap(first_cell_, taken.first_cell_);
  std::swap(cells_, taken.cells_);
  std::swap(clean_until_, taken.clean_until_);
  std::swap(states_, taken.states_);
  return *this;
}

Sequence::~Sequence() {
  if (pool_ != nullptr) pool_->give_back(first_cell_, cells_);
}

}  // namespace baton::engine
