#include "handoff/flow.h"

#include <algorithm>
#include <format>

#include "base/attention_window.h"
#include "handoff/widths_check.h"

namespace baton::handoff {

bool may_be_dropped(const Chunk& chunk, std::uint32_t last_border, std::uint32_t window) {
  return chunk.end_position() <= first_visible(last_border, window);
}

namespace {

// Layers that `from` has in its stages and `to` in its own.
LayerRange common_layers(const plan::Stage* from, const plan::Stage* to) {
  if (from == nullptr || to == nullptr) return {};
  const LayerRange both = {std::max(from->layers.begin, to->layers.begin), std::min(from->layers.end, to->layers.end)};
  return both.empty() ? LayerRange{} : both;
}

// The layer at which `sender` hands its hidden states directly to `receiver`.
std::optional<std::uint32_t> hidden_layer(const plan::Stages& stages, plan::NodeIndex sender,
                                          plan::NodeIndex receiver) {
  const plan::Stage* before = plan::stage_before(stages, receiver);
  if (before == nullptr || before->node != sender) return std::nullopt;
  return before->layers.end;
}

struct Lanes {
  LayerRange kv;
  std::optional<std::uint32_t> prefill_hidden;
  std::optional<std::uint32_t> decode_hidden;
  bool prefill_logits = false;
  bool decode_logits = false;

  bool empty() const { return kv.empty() && !prefill_hidden && !decode_hidden && !prefill_logits && !decode_logits; }
};

Lanes lanes_between(const plan::Plan& plan, plan::NodeIndex sender, plan::NodeIndex receiver) {
  Lanes lanes;
  lanes.kv = common_layers(plan::stage_of(plan.prefill, sender), plan::stage_of(plan.decode, receiver));
  lanes.prefill_hidden = hidden_layer(plan.prefill, sender, receiver);
  lanes.decode_hidden = hidden_layer(plan.decode, sender, receiver);
  if (receiver == plan::kCoordinator) {
    lanes.prefill_logits = plan.prefill.back().node == sender;
    lanes.decode_logits = plan.decode.back().node == sender;
  }
  return lanes;
}

}  // namespace

const KeptLane* Flow::find_lane(SliceKind kind, std::uint32_t layer) const {
  auto lane = std::ranges::lower_bound(kept, layer, {}, &KeptLane::layer);
  while (lane != kept.end() && lane->layer == layer && lane->kind != kind) ++lane;
  return lane != kept.end() && lane->layer == layer ? &*lane : nullptr;
}

bool Flow::contains(const SliceKey& key) const {
  if (key.tokens == 0 || key.end_position() < key.first_position) return false;
  const bool is_chunk = [&] {
    const auto chunk = std::ranges::lower_bound(chunks, key.first_position, {}, &Chunk::first_position);
    return chunk != chunks.end() && *chunk == Chunk{key.first_position, key.tokens};
  }();
  const bool is_step = key.tokens == 1 && key.first_position >= prompt_tokens && key.first_position < end_position;
  switch (key.kind) {
    case SliceKind::kKv:
    case SliceKind::kLatent:
    case SliceKind::kRecurrent: return is_chunk && find_lane(key.kind, key.layer) != nullptr;
    case SliceKind::kHidden:
      return (prefill_hidden == key.layer && is_chunk) || (decode_hidden == key.layer && is_step);
    case SliceKind::kLogits: {
      const bool is_last = key.tokens == 1 && !chunks.empty() && key.end_position() == prompt_tokens;
      return key.layer == layers && ((prefill_logits && is_last) || (decode_logits && is_step));
    }
  }
  return false;
}

PartDTypes Flow::dtypes(SliceKind kind) const {
  switch (kind) {
    case SliceKind::kKv: return {codec, codec};
    case SliceKind::kLatent: return {codec, DType::kNone};
    case SliceKind::kRecurrent: return {DType::kF32, DType::kNone};
    case SliceKind::kHidden: return {hidden, DType::kNone};
    case SliceKind::kLogits: return {DType::kF32, DType::kNone};
  }
  return {DType::kNone, DType::kNone};
}

bool Flow::may_be_dropped(const SliceKey& key) const {
  const KeptLane* lane = find_lane(key.kind, key.layer);
  return lane != nullptr && handoff::may_be_dropped({key.first_position, key.tokens}, last_border, lane->window);
}

std::uint64_t Flow::needed_slices() const {
  std::uint64_t slices = prefill_slices();
  for (const KeptLane& lane : kept) {
    slices -= static_cast<std::uint64_t>(std::ranges::count_if(
        chunks, [&](const Chunk& chunk) { return handoff::may_be_dropped(chunk, last_border, lane.window); }));
  }
  return slices;
}

std::uint64_t Flow::prefill_slices() const {
  const std::uint64_t per_chunk = kept.size() + (prefill_hidden ? 1 : 0);
  return chunks.size() * per_chunk + (prefill_logits && !chunks.empty() ? 1 : 0);
}

namespace {

std::uint64_t total(const std::array<std::size_t, kParts>& parts) { return std::uint64_t{parts[0]} + parts[1]; }

}  // namespace

std::uint64_t Flow::prefill_bytes(const Widths& widths) const {
  std::uint64_t bytes = 0;
  const auto add = [&](SliceKind kind, std::uint32_t layer, const Chunk& chunk) {
    bytes += total(part_bytes({kind, layer, chunk.first_position, chunk.tokens}, dtypes(kind), widths));
  };
  for (const Chunk& chunk : chunks) {
    for (const KeptLane& lane : kept) add(lane.kind, lane.layer, chunk);
    if (prefill_hidden) add(SliceKind::kHidden, *prefill_hidden, chunk);
  }
  if (prefill_logits && !chunks.empty()) add(SliceKind::kLogits, layers, {prompt_tokens - 1, 1});
  return bytes;
}

std::uint64_t Flow::largest_slice_bytes(const Widths& widths) const {
  std::uint64_t largest = 0;
  std::uint32_t tokens = 1;
  for (const Chunk& chunk : chunks) tokens = std::max(tokens, chunk.tokens);
  const auto consider = [&](SliceKind kind, std::uint32_t layer, std::uint32_t count) {
    largest = std::max(largest, total(part_bytes({kind, layer, 0, count}, dtypes(kind), widths)));
  };
  for (const KeptLane& lane : kept) consider(lane.kind, lane.layer, tokens);
  if (prefill_hidden) consider(SliceKind::kHidden, *prefill_hidden, tokens);
  if (decode_hidden) consider(SliceKind::kHidden, *decode_hidden, 1);
  if (prefill_logits || decode_logits) consider(SliceKind::kLogits, layers, 1);
  return largest;
}

bool Flow::empty() const {
  return kv.empty() && !prefill_hidden && !decode_hidden && !prefill_logits && !decode_logits;
}

namespace {

std::vector<KeptLane> lanes_of(LayerRange layers, const Widths& widths) {
  std::vector<KeptLane> lanes;
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    const LayerWidths& kept = widths.kept[layer];
    if (kept.state_values == 0 || kept.k_values != 0) {
      const bool latent = kept.v_values == 0 && kept.k_values != 0;
      lanes.push_back({latent ? SliceKind::kLatent : SliceKind::kKv, layer, kept.window});
    }
    if (kept.state_values != 0) lanes.push_back({SliceKind::kRecurrent, layer, 0});
  }
  return lanes;
}

}  // namespace

Flow flow_of(const Open& open, const Widths& widths) {
  const Lanes lanes = lanes_between(open.plan, open.sender, open.receiver);
  Flow flow;
  flow.chunks = chunk_grid(open.prefix_tokens, open.prompt_tokens, open.chunk_tokens);
  flow.kv = lanes.kv;
  flow.kept = lanes_of(lanes.kv, widths);
  flow.prefill_hidden = lanes.prefill_hidden;
  flow.decode_hidden = lanes.decode_hidden;
  flow.prefill_logits = lanes.prefill_logits;
  flow.decode_logits = lanes.decode_logits;
  flow.steps = open.receiver == plan::kCoordinator;
  flow.layers = widths.layers();
  flow.prompt_tokens = open.prompt_tokens;
  flow.last_border = last_border(open.prompt_tokens, open.chunk_tokens);
  flow.end_position = open.prompt_tokens + open.max_new_tokens;
  flow.codec = open.codec;
  flow.hidden = open.hidden;
  return flow;
}

Need transfer_need(const plan::Plan& plan, plan::NodeIndex sender, plan::NodeIndex receiver) {
  if (sender == receiver) return Need::kNone;
  const bool coordinates = receiver == plan::kCoordinator;
  return coordinates || !lanes_between(plan, sender, receiver).empty() ? Need::kTransfer : Need::kNone;
}

Result<void> check_widths(const Flow& flow, const Widths& widths) {
  const auto suits = [&](std::uint32_t values, DType dtype) {
    return values != 0 && values % block_values(dtype) == 0;
  };
  for (const KeptLane& lane : flow.kept) {
    const LayerWidths& width = widths.kept[lane.layer];
    const bool one_part = lane.kind != SliceKind::kKv;
    if (lane.kind == SliceKind::kRecurrent) continue;  // one f32 row
    if (suits(width.k_values, flow.codec) && (one_part || suits(width.v_values, flow.codec))) continue;
    return fail(ErrorCode::kUnsupported,
                std::format("KV rows of {} and {} values do not divide into {} blocks: use f16", width.k_values,
                            width.v_values, dtype_name(flow.codec)));
  }
  if (((flow.prefill_hidden || flow.decode_hidden) && widths.hidden_values == 0) ||
      ((flow.prefill_logits || flow.decode_logits) && widths.logits_values == 0)) {
    return fail(ErrorCode::kUnsupported, "the model has no hidden states or logits to send");
  }
  if (flow.largest_slice_bytes(widths) > kMaxSliceBytes) {
    return fail(ErrorCode::kUnsupported, "a chunk's KV is too large for one slice: use smaller chunks");
  }
  return {};
}

}  // namespace baton::handoff
