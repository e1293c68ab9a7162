// What flows in a transfer. Both sides derive it from Open alone, so nothing about it has to be agreed upon.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/chunk_grid.h"
#include "base/layer_range.h"
#include "handoff/messages.h"
#include "handoff/slice.h"
#include "plan/plan.h"

namespace baton::handoff {

// Whether a chunk's rows lie wholly before what a token at the prompt's last_border() sees in a layer with this
// attention window. Then the receiver can do without them, for this request and for one that goes on from it on the
// same grid, and the sender may drop them.
bool may_be_dropped(const Chunk& chunk, std::uint32_t last_border, std::uint32_t window);

// One kind of memory of one layer.
struct KeptLane {
  SliceKind kind = SliceKind::kKv;
  std::uint32_t layer = 0;
  std::uint32_t window = 0;  // positions that a token sees of it; 0: all

  auto operator<=>(const KeptLane&) const = default;
};

struct Flow {
  std::vector<Chunk> chunks;                    // of the prompt
  LayerRange kv;                                // layers whose memory flows, chunk by chunk; may be empty
  std::vector<KeptLane> kept;                   // all of their lanes, layer by layer
  std::optional<std::uint32_t> prefill_hidden;  // the layer that hidden states of each chunk enter
  std::optional<std::uint32_t> decode_hidden;   // the layer that hidden states of each step enter
  bool prefill_logits = false;                  // of the prompt's last position
  bool decode_logits = false;                   // of each step
  bool steps = false;                           // the receiver is the coordinator and may send Step
  std::uint32_t layers = 0;                     // of the model; the `layer` of logits
  std::uint32_t prompt_tokens = 0;
  std::uint32_t last_border = 0;   // of the prompt's chunks
  std::uint32_t end_position = 0;  // prompt_tokens + max_new_tokens: decode positions lie below
  DType codec = DType::kF16;
  DType hidden = DType::kF32;

  // Whether a slice with this key belongs to this transfer: one chunk of a prefill flow, or one position of a decode
  // flow.
  bool contains(const SliceKey& key) const;
  PartDTypes dtypes(SliceKind kind) const;
  // Whether the sender may drop this slice of the flow.
  bool may_be_dropped(const SliceKey& key) const;
  // Slices and payload bytes of the prefill, those that may be dropped included.
  std::uint64_t prefill_slices() const;
  std::uint64_t needed_slices() const;  // without them
  std::uint64_t prefill_bytes(const Widths& widths) const;
  // Payload of the largest slice.
  std::uint64_t largest_slice_bytes(const Widths& widths) const;
  // Whether no slice will ever flow; the coordinator's transfers exist nevertheless.
  bool empty() const;

 private:
  const KeptLane* find_lane(SliceKind kind, std::uint32_t layer) const;
};

// `open` must have passed check() for as many layers as there are widths.
Flow flow_of(const Open& open, const Widths& widths);

// Whether `receiver` must open a transfer to `sender` under a valid plan: something flows, or the receiver coordinates.
enum class Need { kNone, kTransfer };
Need transfer_need(const plan::Plan& plan, plan::NodeIndex sender, plan::NodeIndex receiver);

}  // namespace baton::handoff
