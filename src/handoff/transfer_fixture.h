// For tests: a small model, its plans, and payloads whose bytes say where they belong.
#pragma once

#include <string_view>
#include <vector>

#include "handoff/receiver.h"
#include "handoff/sender.h"
#include "plan/plan.h"

namespace baton::handoff::fixture {

inline constexpr TimePoint kStart{std::chrono::hours(1)};
inline constexpr Duration kMs = std::chrono::milliseconds(1);
inline constexpr Duration kSecond = std::chrono::seconds(1);
inline constexpr std::uint32_t kLayers = 4;

inline TransferId transfer_id(std::uint8_t seed = 7) {
  TransferId id;
  for (std::size_t i = 0; i < id.bytes.size(); ++i) id.bytes[i] = static_cast<std::byte>(seed + i);
  return id;
}

inline Widths widths(std::uint32_t kv_values = 8, std::uint32_t window = 0) {
  const LayerWidths rows{.k_values = kv_values, .v_values = kv_values, .state_values = 0, .window = window};
  return {.kept = std::vector<LayerWidths>(kLayers, rows), .hidden_values = 6, .logits_values = 5};
}

// Nodes are "local" (the coordinator), A and B, in the order that the text names them after local.
inline plan::Plan plan_of(std::string_view text) {
  const std::vector<plan::NodeRef> peers = {{"A", "host-a:4001", "aa"}, {"B", "host-b:4002", "bb"}};
  return plan::parse_plan(text, peers, kLayers).value();
}

// Node 1 of the plan sends to the coordinator, if not said otherwise.
inline Open open_of(std::string_view plan, std::uint32_t prompt_tokens, std::uint32_t chunk_tokens) {
  Open open;
  open.request = transfer_id(100);
  open.decision = transfer_id(101);
  open.agent = "tester";
  open.label = "a test";
  open.lease = Bytes(3, std::byte{5});
  open.lease_lifetime_ms = 60'000;
  open.model = sha256(as_byte_span("model"));
  open.plan = plan_of(plan);
  open.sender = 1;
  open.receiver = 0;
  open.prompt_tokens = prompt_tokens;
  open.chunk_tokens = chunk_tokens;
  open.max_new_tokens = 4;
  return open;
}

inline constexpr std::string_view kDisaggregated = "prefill=A:0-4;decode=local:0-4";
inline constexpr std::string_view kJoint = "prefill=A:0-2,local:2-4;decode=local:0-4";
inline constexpr std::string_view kPooled = "prefill=local:0-2,A:2-4;decode=local:0-2,A:2-4";

inline std::vector<Token> prompt_of(std::uint32_t tokens) {
  std::vector<Token> prompt(tokens);
  for (std::uint32_t i = 0; i < tokens; ++i) prompt[i] = static_cast<Token>(1000 + i);
  return prompt;
}

// The bytes that a slice with this key has, in both parts.
inline Bytes payload_of(const SliceKey& key, const Flow& flow, const Widths& of) {
  const auto sizes = part_bytes(key, flow.dtypes(key.kind), of);
  Bytes bytes(sizes[0] + sizes[1]);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] =
        static_cast<std::byte>(i * 7 + key.layer * 31 + key.first_position * 13 + static_cast<unsigned>(key.kind));
  }
  return bytes;
}

// `bytes` must outlive the offer.
inline OfferedSlice offered(const SliceKey& key, const Flow& flow, const Widths& of, ByteSpan bytes) {
  const auto sizes = part_bytes(key, flow.dtypes(key.kind), of);
  return {key, {bytes.first(sizes[0]), bytes.subspan(sizes[0], sizes[1])}};
}

// Every slice of the prefill, in the order in which a stage makes them.
inline std::vector<SliceKey> prefill_keys(const Flow& flow) {
  std::vector<SliceKey> keys;
  for (const Chunk& chunk : flow.chunks) {
    for (const KeptLane& lane : flow.kept) {
      keys.push_back({lane.kind, lane.layer, chunk.first_position, chunk.tokens});
    }
    if (flow.prefill_hidden) {
      keys.push_back({SliceKind::kHidden, *flow.prefill_hidden, chunk.first_position, chunk.tokens});
    }
  }
  if (flow.prefill_logits) keys.push_back({SliceKind::kLogits, flow.layers, flow.prompt_tokens - 1, 1});
  return keys;
}

inline Bytes frame_bytes(const OutgoingFrame& frame) {
  Bytes bytes = frame.head;
  bytes.insert(bytes.end(), frame.payload.begin(), frame.payload.end());
  return bytes;
}

// The first event of a kind.
template <typename Event, typename Events>
std::optional<Event> find_event(const Events& events) {
  for (const auto& event : events) {
    if (const auto* found = std::get_if<Event>(&event)) return *found;
  }
  return std::nullopt;
}

template <typename Event, typename Events>
std::size_t count_events(const Events& events) {
  std::size_t count = 0;
  for (const auto& event : events) count += std::holds_alternative<Event>(event) ? 1 : 0;
  return count;
}

}  // namespace baton::handoff::fixture
