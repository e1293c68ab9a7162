#include "node/state_shelf.h"

#include <algorithm>

namespace baton::node {

std::size_t StateShelf::state_bytes(std::uint32_t layer) const {
  return std::size_t{engine_.shape().layers[layer].memory.state_width} * sizeof(float);
}

std::size_t StateShelf::layers_with_state() const {
  const auto keeps_state = [](const model::LayerShape& layer) { return layer.memory.keeps_state(); };
  return static_cast<std::size_t>(std::ranges::count_if(engine_.shape().layers, keeps_state));
}

Result<Bytes> StateShelf::copy(std::uint32_t layer) const {
  Bytes state(state_bytes(layer));
  TRY(engine_.read_state(sequence_, layer, state));
  return state;
}

Result<void> StateShelf::use(std::uint32_t layer, std::uint32_t position, ByteSpan state) {
  return engine_.write_state(sequence_, layer, position, state);
}

void StateShelf::keep(std::uint32_t layer, std::uint32_t border, Bytes state) {
  states_[border][layer] = std::move(state);
}

void StateShelf::drop_below(std::uint32_t border) { states_.erase(states_.begin(), states_.lower_bound(border)); }

void StateShelf::drop_above(std::uint32_t border) { states_.erase(states_.upper_bound(border), states_.end()); }

Result<void> StateShelf::keep_all(std::uint32_t border) {
  for (std::uint32_t layer = 0; layer < engine_.shape().layer_count; ++layer) {
    if (layer_keeps_state(layer)) keep(layer, border, TRY(copy(layer)));
  }
  return {};
}

std::optional<std::uint32_t> StateShelf::position() const {
  std::optional<std::uint32_t> common;
  for (std::uint32_t layer = 0; layer < engine_.shape().layer_count; ++layer) {
    if (!layer_keeps_state(layer)) continue;
    const auto position = engine_.state_position(sequence_, layer);
    if (!position || (common && *common != *position)) return std::nullopt;
    common = position;
  }
  return common;
}

std::uint32_t StateShelf::last_border(std::uint32_t limit) const {
  const std::size_t wanted = layers_with_state();
  if (wanted == 0) return limit;
  for (auto after = states_.upper_bound(limit); after != states_.begin();) {
    --after;
    if (after->second.size() == wanted) return after->first;
  }
  return 0;
}

std::vector<std::uint32_t> StateShelf::borders(std::uint32_t limit) const {
  std::vector<std::uint32_t> found;
  for (const auto& [border, layers] : states_) {
    if (border <= limit && layers.size() == layers_with_state()) found.push_back(border);
  }
  return found;
}

const Bytes* StateShelf::find(std::uint32_t layer, std::uint32_t border) const {
  const auto at_border = states_.find(border);
  if (at_border == states_.end()) return nullptr;
  const auto found = at_border->second.find(layer);
  return found == at_border->second.end() ? nullptr : &found->second;
}

Result<void> StateShelf::restore(std::uint32_t border) {
  const auto found = states_.find(border);
  if (found == states_.end()) return {};
  for (const auto& [layer, state] : found->second) TRY(use(layer, border, state));
  return {};
}

}  // namespace baton::node
