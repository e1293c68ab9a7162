// What a slice is called, and how large it is.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "handoff/codec.h"

namespace baton::handoff {

// Kinds of slices; the value is the byte on the wire.
enum class SliceKind : std::uint8_t {
  kKv = 1,         // K rows (after norm and RoPE) of the slice's tokens, then V rows; a row is [kv head][head dim]
  kLatent = 2,     // one latent row per token, from which attention makes K and V
  kRecurrent = 3,  // a layer's whole state behind the slice's last token, f32, however many tokens there are
  kHidden = 4,     // activations that enter `layer`, one row [embd] per token
  kLogits = 5,     // one row [vocabulary] per token, f32; `layer` is the model's layer count
};

std::string_view slice_kind_name(SliceKind kind);

// What layers keep, and decode needs: the bulk of a transfer.
constexpr bool is_kept(SliceKind kind) { return kind <= SliceKind::kRecurrent; }

// A slice covers positions first_position .. first_position + tokens of one layer.
struct SliceKey {
  SliceKind kind = SliceKind::kKv;
  std::uint32_t layer = 0;
  std::uint32_t first_position = 0;
  std::uint32_t tokens = 0;

  std::uint32_t end_position() const { return first_position + tokens; }
  std::string to_string() const;  // "kv of layer 3, positions 512..1024"
  auto operator<=>(const SliceKey&) const = default;
};

// A slice's payload has one or two parts, one after the other: K and V, or a single one.
inline constexpr std::size_t kParts = 2;

// Number formats of the parts; the second is kNone where there is one part only.
using PartDTypes = std::array<DType, kParts>;

// Values in a row of each kind: what a receiver checks lengths against. Both sides know it from the model.
struct LayerWidths {
  std::uint32_t k_values = 0;      // of a token's K, or of its latent row where v_values is 0; 0: no rows
  std::uint32_t v_values = 0;      // of its V
  std::uint32_t state_values = 0;  // of the layer's whole state; 0: it has none
  std::uint32_t window = 0;        // positions whose rows a token sees, its own included; 0: all before it
};
struct Widths {
  std::vector<LayerWidths> kept;  // what each layer of the model keeps
  std::uint32_t hidden_values = 0;
  std::uint32_t logits_values = 0;

  std::uint32_t layers() const { return static_cast<std::uint32_t>(kept.size()); }
};

// Bytes of each part of a slice in the given formats; the formats must suit the widths (create() of both sides checks).
std::array<std::size_t, kParts> part_bytes(const SliceKey& key, const PartDTypes& dtypes, const Widths& widths);

}  // namespace baton::handoff
