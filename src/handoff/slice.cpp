#include "handoff/slice.h"

#include <format>

namespace baton::handoff {

std::string_view slice_kind_name(SliceKind kind) {
  switch (kind) {
    case SliceKind::kKv: return "kv";
    case SliceKind::kLatent: return "latent";
    case SliceKind::kRecurrent: return "recurrent";
    case SliceKind::kHidden: return "hidden";
    case SliceKind::kLogits: return "logits";
  }
  return "unknown";
}

std::string SliceKey::to_string() const {
  return std::format("{} of layer {}, positions {}..{}", slice_kind_name(kind), layer, first_position,
                     std::uint64_t{first_position} + tokens);
}

std::array<std::size_t, kParts> part_bytes(const SliceKey& key, const PartDTypes& dtypes, const Widths& widths) {
  const auto rows = [&](std::size_t part, std::uint32_t values) {
    return std::size_t{key.tokens} * encoded_size(dtypes[part], values);
  };
  const LayerWidths kept = key.layer < widths.kept.size() ? widths.kept[key.layer] : LayerWidths{};
  switch (key.kind) {
    case SliceKind::kKv: return {rows(0, kept.k_values), rows(1, kept.v_values)};
    case SliceKind::kLatent: return {rows(0, kept.k_values), 0};
    case SliceKind::kRecurrent: return {encoded_size(dtypes[0], kept.state_values), 0};
    case SliceKind::kHidden: return {rows(0, widths.hidden_values), 0};
    case SliceKind::kLogits: return {rows(0, widths.logits_values), 0};
  }
  return {0, 0};
}

}  // namespace baton::handoff
