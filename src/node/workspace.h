// What a session's slices are read from and written to: its cells in the KV cache, and buffers for everything else that
// is under way. Shared, so that it outlives the session while a connection or the executor still uses it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "engine/engine.h"
#include "handoff/codec.h"
#include "handoff/slice.h"
#include "node/state_shelf.h"

namespace baton::node {

// Tokens whose rows are in a sequence before the work begins that is to use it.
struct HeldTokens {
  std::uint32_t tokens = 0;
  std::uint32_t exact_tokens = 0;  // of them, the first, computed as that work would have
};

// Of `computed` tokens those that were computed in whole chunks of the grid, where work in such chunks went on from
// `held` ones.
std::uint32_t exact_tokens(HeldTokens held, std::uint32_t computed, std::uint32_t chunk_tokens);

class Workspace : public std::enable_shared_from_this<Workspace> {
 public:
  explicit Workspace(engine::Engine& engine) : engine_(engine), states_(engine, sequence_) {}

  // Takes cells; try-only.
  Result<void> reserve(std::uint32_t tokens);
  // Gives up room, or takes some behind what it has, for so many tokens; kNoCapacity where that is not free.
  Result<void> resize(std::uint32_t tokens) { return engine_.resize(sequence_, tokens); }
  // Takes the first tokens of another's sequence, which stays as it is. Copies: 0.1 s for a gigabyte.
  Result<void> copy_prefix(Workspace& from, std::uint32_t tokens);
  engine::Sequence& sequence() { return sequence_; }
  StateShelf& states() { return states_; }

  // Rows of consecutive tokens in `dtype`, K and V or the latent rows alone: the cache's own memory where it has that
  // format and the host can read it, otherwise a copy that is kept until release().
  Result<std::array<ByteSpan, 2>> kv_rows(std::uint32_t layer, std::uint32_t first_position, std::uint32_t tokens,
                                          handoff::DType dtype);
  // K and V, one after the other.
  struct CopiedRows {
    Bytes bytes;
    std::size_t k_bytes = 0;
  };
  // The same, always copied, into the memory of `into`. On the thread that computes the layer, where its rows will not
  // stay.
  Result<CopiedRows> copy_rows(std::uint32_t layer, std::uint32_t first_position, std::uint32_t tokens,
                               handoff::DType dtype, Bytes into = {}) const;
  // Keeps them until release().
  std::array<ByteSpan, 2> keep(CopiedRows rows);
  // Whether the sequence can be computed on from this position in every layer, as far as windows go. For whoever may
  // write to it.
  bool can_continue_at(std::uint32_t position) const;
  // The last position not above `limit` from which these layers can be computed on: `limit`, where all keep everything;
  // 0 where there is none.
  std::uint32_t last_position_to_continue(LayerRange layers, std::uint32_t limit) const;
  // As if nothing had been computed from `position` on, which last_position_to_continue() gave.
  Result<void> go_back_to(std::uint32_t position);
  HeldTokens held() const { return held_; }
  void set_held(HeldTokens held) { held_ = held; }
  Result<void> write_kv(std::uint32_t layer, std::uint32_t first_position, std::uint32_t tokens, handoff::DType dtype,
                        ByteSpan k, ByteSpan v);

  // Keeps bytes readable until release() and as long as somebody holds keep_alive() of them.
  ByteSpan keep(Bytes bytes);
  // Bytes to resize, fill and keep(): those of an earlier slice where some are spare, for memory that is fresh from the
  // system costs more than a slice's conversion.
  Bytes take_spare();
  void release(ByteSpan kept);
  void release_all();
  // Of all that waits for release().
  std::size_t kept_bytes() const { return kept_bytes_; }
  std::shared_ptr<const void> keep_alive(ByteSpan part);

 private:
  void put_aside(Bytes bytes);

  engine::Engine& engine_;
  engine::Sequence sequence_;
  StateShelf states_;
  HeldTokens held_;
  std::map<const std::byte*, std::shared_ptr<Bytes>, std::greater<>> kept_;  // by address
  std::size_t kept_bytes_ = 0;
  std::vector<Bytes> spare_;  // at most kSpareBuffers
};

// Values in a row of whatever a transfer of this model carries.
handoff::Widths widths_of(const model::ModelShape& shape);

// The handoff's name of the cache's format.
handoff::DType cache_dtype(engine::CacheType type);

}  // namespace baton::node
