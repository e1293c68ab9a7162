// A sequence's place in the KV cache.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace baton::engine {

class CellPool;
class SequenceStates;

// Owns contiguous cells of one engine's cache until it is destroyed; position p lies in the p-th of them. Movable.
// With them go the states of layers that keep one.
// Destroying it frees the cells, so nobody may still be reading or writing them then. It may outlive its engine.
class Sequence {
 public:
  Sequence() = default;
  Sequence(Sequence&& other) noexcept;
  Sequence& operator=(Sequence&& other) noexcept;
  ~Sequence();

  explicit operator bool() const { return pool_ != nullptr; }
  // Tokens it can hold: what was asked for, rounded up to a multiple of 256.
  std::uint32_t capacity() const { return cells_; }

 private:
  friend class Engine;
  friend class ForwardPass;
  Sequence(std::shared_ptr<CellPool> pool, std::uint32_t first_cell, std::uint32_t cells, std::uint32_t layers);

  std::shared_ptr<CellPool> pool_;
  std::uint32_t first_cell_ = 0;
  std::uint32_t cells_ = 0;
  // Per layer: positions below this have been cleared or written since the cells were taken. Executor thread only.
  std::vector<std::uint32_t> clean_until_;
  std::shared_ptr<SequenceStates> states_;  // null where the model's layers keep none
};

}  // namespace baton::engine
