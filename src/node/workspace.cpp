#include "node/workspace.h"

#include <algorithm>

namespace baton::node {

namespace {

// As many slices as are usually under way at a time; what a slow link held up beyond that goes back to the system.
constexpr std::size_t kSpareBuffers = 16;

// K and V of some tokens, one after the other in one buffer.
struct TwoParts {
  Bytes bytes;
  std::size_t k_bytes = 0;

  void resize(std::size_t k, std::size_t v) {
    bytes.resize(k + v);
    k_bytes = k;
  }
  std::span<std::byte> k() { return std::span(bytes).first(k_bytes); }
  std::span<std::byte> v() { return std::span(bytes).subspan(k_bytes); }
};

}  // namespace

handoff::DType cache_dtype(engine::CacheType type) {
  return type == engine::CacheType::kF16 ? handoff::DType::kF16 : handoff::DType::kQ8_0;
}

handoff::Widths widths_of(const model::ModelShape& shape) {
  handoff::Widths widths;
  for (const model::LayerShape& layer : shape.layers) {
    const model::LayerMemory& memory = layer.memory;
    widths.kept.push_back({.k_values = memory.k_width,
                           .v_values = memory.v_width,
                           .state_values = memory.state_width,
                           .window = layer.attention_window});
  }
  widths.hidden_values = shape.embedding_width;
  widths.logits_values = shape.vocabulary_size;
  return widths;
}

std::uint32_t exact_tokens(HeldTokens held, std::uint32_t computed, std::uint32_t chunk_tokens) {
  const bool on_grid = held.exact_tokens == held.tokens && held.tokens % chunk_tokens == 0;
  return on_grid ? computed / chunk_tokens * chunk_tokens : held.exact_tokens;
}

Result<void> Workspace::reserve(std::uint32_t tokens) {
  sequence_ = TRY(engine_.reserve(tokens));
  return {};
}

Result<std::array<ByteSpan, 2>> Workspace::kv_rows(std::uint32_t layer, std::uint32_t first_position,
                                                   std::uint32_t tokens, handoff::DType dtype) {
  if (cache_dtype(engine_.kv_layout(layer).type) == dtype) {
    if (const auto view = engine_.view(sequence_, layer, first_position, tokens)) return std::array{view->k, view->v};
  }
  return keep(TRY(copy_rows(layer, first_position, tokens, dtype, take_spare())));
}

Result<Workspace::CopiedRows> Workspace::copy_rows(std::uint32_t layer, std::uint32_t first_position,
                                                   std::uint32_t tokens, handoff::DType dtype, Bytes into) const {
  const engine::KvLayout& layout = engine_.kv_layout(layer);
  const handoff::DType stored = cache_dtype(layout.type);
  const auto view = stored == dtype ? std::nullopt : engine_.view(sequence_, layer, first_position, tokens);
  TwoParts raw;
  if (!view) {
    if (stored == dtype) raw.bytes = std::move(into);
    raw.resize(std::size_t{layout.k_row_bytes} * tokens, std::size_t{layout.v_row_bytes} * tokens);
    TRY(engine_.read_kv(sequence_, layer, first_position, tokens, raw.k(), raw.v()));
    if (stored == dtype) return CopiedRows{std::move(raw.bytes), raw.k_bytes};
  }
  TwoParts coded{std::move(into)};
  coded.resize(handoff::encoded_size(dtype, std::size_t{layout.k_width} * tokens),
               handoff::encoded_size(dtype, std::size_t{layout.v_width} * tokens));
  TRY(handoff::convert(stored, view ? view->k : raw.k(), dtype, coded.k()));
  TRY(handoff::convert(stored, view ? view->v : raw.v(), dtype, coded.v()));
  return CopiedRows{std::move(coded.bytes), coded.k_bytes};
}

std::array<ByteSpan, 2> Workspace::keep(CopiedRows rows) {
  const ByteSpan kept = keep(std::move(rows.bytes));
  return {kept.first(rows.k_bytes), kept.subspan(rows.k_bytes)};
}

bool Workspace::can_continue_at(std::uint32_t position) const {
  return engine_.can_continue_at(sequence_, {0, engine_.shape().layer_count}, position);
}

std::uint32_t Workspace::last_position_to_continue(LayerRange layers, std::uint32_t limit) const {
  const auto own = states_.position();
  const std::uint32_t position =
      own && *own <= limit ? std::max(*own, states_.last_border(limit)) : states_.last_border(limit);
  // What a window has lost at a later position it has lost at an earlier one.
  return engine_.can_continue_at(sequence_, layers, position) ? position : 0;
}

Result<void> Workspace::go_back_to(std::uint32_t position) {
  states_.drop_above(position);
  if (states_.position() != position) {
    TRY(states_.restore(position));
  } else {
    // The sequence's own will move on; a later text may leave this one in what follows.
    TRY(states_.keep_all(position));
  }
  engine_.forget_from(sequence_, position);
  return {};
}

Result<void> Workspace::copy_prefix(Workspace& from, std::uint32_t tokens) {
  TRY(engine_.copy_prefix(from.sequence_, sequence_, tokens));
  return states_.keep_all(tokens);
}

Result<void> Workspace::write_kv(std::uint32_t layer, std::uint32_t first_position, std::uint32_t tokens,
                                 handoff::DType dtype, ByteSpan k, ByteSpan v) {
  const engine::KvLayout& layout = engine_.kv_layout(layer);
  const handoff::DType stored = cache_dtype(layout.type);
  if (stored == dtype) return engine_.write_kv(sequence_, layer, first_position, tokens, k, v);
  TwoParts converted{take_spare()};
  converted.resize(std::size_t{layout.k_row_bytes} * tokens, std::size_t{layout.v_row_bytes} * tokens);
  TRY(handoff::convert(dtype, k, stored, converted.k()));
  TRY(handoff::convert(dtype, v, stored, converted.v()));
  TRY(engine_.write_kv(sequence_, layer, first_position, tokens, converted.k(), converted.v()));
  put_aside(std::move(converted.bytes));
  return {};
}

Bytes Workspace::take_spare() {
  if (spare_.empty()) return {};
  Bytes bytes = std::move(spare_.back());
  spare_.pop_back();
  return bytes;
}

void Workspace::put_aside(Bytes bytes) {
  if (!bytes.empty() && spare_.size() < kSpareBuffers) spare_.push_back(std::move(bytes));
}

ByteSpan Workspace::keep(Bytes bytes) {
  auto kept = std::make_shared<Bytes>(std::move(bytes));
  const ByteSpan span = *kept;
  kept_bytes_ += span.size();
  if (!span.empty()) kept_[span.data()] = std::move(kept);
  return span;
}

void Workspace::release(ByteSpan kept) {
  const auto found = kept_.find(kept.data());
  if (found == kept_.end()) return;
  kept_bytes_ -= found->second->size();
  // What a connection still reads goes when it has done so.
  if (found->second.use_count() == 1) put_aside(std::move(*found->second));
  kept_.erase(found);
}

void Workspace::release_all() {
  kept_.clear();
  kept_bytes_ = 0;
  spare_.clear();
}

std::shared_ptr<const void> Workspace::keep_alive(ByteSpan part) {
  // The greatest address not above the part's; what lies in none of the buffers lies in the cache.
  const auto found = kept_.lower_bound(part.data());
  if (found != kept_.end() && part.data() < found->second->data() + found->second->size()) return found->second;
  return shared_from_this();
}

}  // namespace baton::node
