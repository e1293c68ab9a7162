// The messages of the KV stream and their bytes: docs/formats/kv-stream.md. One message is one frame of the connection.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/layer_range.h"
#include "base/result.h"
#include "handoff/slice.h"
#include "plan/plan.h"

namespace baton::handoff {

inline constexpr std::uint16_t kMinVersion = 1;
inline constexpr std::uint16_t kMaxVersion = 1;

inline constexpr std::size_t kMaxFragmentBytes = 256 * 1024;
inline constexpr std::size_t kMaxFrameBytes = kMaxFragmentBytes + 4096;
inline constexpr std::uint64_t kMaxSliceBytes = 1u << 30;
inline constexpr std::uint32_t kMaxPromptTokens = 1u << 24;
inline constexpr std::uint32_t kMaxChunkTokens = 1u << 16;
inline constexpr std::uint32_t kMaxLayers = 4096;
inline constexpr std::size_t kTokensPerPromptFrame = 60'000;
inline constexpr std::uint32_t kMostGuesses = 64;

// 16 random bytes that name a transfer, a request or a decision.
struct Id {
  std::array<std::byte, 16> bytes{};

  std::string hex() const;
  auto operator<=>(const Id&) const = default;
};
using TransferId = Id;

struct IdHash {
  std::size_t operator()(const Id& id) const;
};

// A field that version 1 does not know. One with the critical bit must be understood or the message refused.
struct Extension {
  static constexpr std::uint16_t kCriticalBit = 0x8000;
  std::uint16_t id = 0;
  Bytes value;

  bool critical() const { return (id & kCriticalBit) != 0; }
  bool operator==(const Extension&) const = default;
};

// Of an Open whose receiver, the coordinator, wants its text guessed at by a small model of the sender, and no layers
// computed. Its value says how the text is drawn (src/node writes and reads it).
inline constexpr std::uint16_t kGuessExtension = Extension::kCriticalBit | 2;

// --- both ways, first on a connection; transfer and generation are zero

struct Hello {
  std::uint16_t min_version = kMinVersion;
  std::uint16_t max_version = kMaxVersion;
  std::string software;  // for logs, such as "baton 0.1.0"
  std::vector<Extension> extensions;

  bool operator==(const Hello&) const = default;
};

// --- receiver to sender

enum class Determinism : std::uint8_t { kFast = 0, kDeterministic = 1 };

// Opens a transfer, or opens it again with a higher generation where the first Open was never accepted.
// Prompt frames with all prompt tokens follow it.
struct Open {
  Id request;
  Id decision;
  std::string agent;
  std::string label;
  Bytes lease;  // opaque here: src/trust signs it
  std::uint32_t lease_lifetime_ms = 0;
  Sha256 model;
  plan::Plan plan;
  plan::NodeIndex sender = 0;
  plan::NodeIndex receiver = 0;
  std::uint32_t prompt_tokens = 0;
  // Held by the receiver: nothing below this position flows; a multiple of chunk_tokens.
  std::uint32_t prefix_tokens = 0;
  Sha256 prefix;  // its name (prefix.h); zero where prefix_tokens is 0
  std::uint32_t chunk_tokens = 0;
  std::uint32_t max_new_tokens = 0;
  DType codec = DType::kF16;   // of KV: f16, q8_0 or q4_0
  DType hidden = DType::kF32;  // of hidden states: f32, f16 or bf16
  Determinism determinism = Determinism::kFast;
  std::uint64_t allowed_bytes = 0;  // first credit
  std::vector<Extension> extensions;

  bool operator==(const Open&) const = default;
};

// Tokens offset .. offset + tokens.size() of the prompt.
struct Prompt {
  std::uint32_t offset = 0;
  std::vector<Token> tokens;

  bool operator==(const Prompt&) const = default;
};

// All positions of (kind, layer) from the transfer's beginning to up_to_position are verified and will not be sent
// again.
struct HeldRange {
  SliceKind kind = SliceKind::kKv;
  std::uint32_t layer = 0;
  std::uint32_t up_to_position = 0;

  bool operator==(const HeldRange&) const = default;
};

// Goes on with an accepted transfer on a new connection, under a higher generation. Credit starts anew.
struct Resume {
  std::uint64_t allowed_bytes = 0;
  std::vector<HeldRange> held;

  bool operator==(const Resume&) const = default;
};

// The sender may send slice payloads up to allowed_bytes in all, counted from the beginning of this generation.
// `held` names ranges that grew since the last Credit.
struct Credit {
  std::uint64_t allowed_bytes = 0;
  std::vector<HeldRange> held;

  bool operator==(const Credit&) const = default;
};

// Decode this token at this position. Only from the coordinator; a position seen before is ignored.
struct Step {
  std::uint32_t position = 0;
  Token token = 0;

  bool operator==(const Step&) const = default;
};

// Only where guesses are wanted: the text goes on with these tokens from `position`, and the sender guesses `most`
// tokens behind them. Where that is 0 it answers nothing yet.
struct Draft {
  std::uint32_t position = 0;
  std::uint32_t most = 0;
  std::vector<Token> tokens;

  bool operator==(const Draft&) const = default;
};

// The receiver has all it needs; repeated until Released.
struct Commit {
  bool operator==(const Commit&) const = default;
};

// An error as it travels: unknown codes read as kInternal, messages are cut at 1,024 bytes.
struct WireError {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;

  Error to_error() const { return {code, message, {}}; }
  static WireError from(const Error& error) { return {error.code, error.to_string()}; }
  bool operator==(const WireError&) const = default;
};

struct Cancel {
  WireError error;
  bool operator==(const Cancel&) const = default;
};

// Times are nanoseconds of the named machine's monotonic clock.
struct Ping {
  std::int64_t receiver_time_ns = 0;
  bool operator==(const Ping&) const = default;
};

// --- sender to receiver

// Whether a node computes as fast as it can, or as slowly as a device that it emulates: figures that it had a part in
// must then be labelled so.
enum class Pace : std::uint8_t { kReal = 0, kEmulated = 1 };

// Every cell and buffer is reserved and the whole prompt has arrived.
struct Accepted {
  std::uint32_t prefix_tokens = 0;       // that the sender itself holds, so where it starts to compute
  std::uint32_t predicted_chunk_us = 0;  // for one chunk on this stage
  std::uint32_t predicted_step_us = 0;   // for one decode step on this stage
  Pace pace = Pace::kReal;

  bool operator==(const Accepted&) const = default;
};

struct Refused {
  WireError error;
  bool operator==(const Refused&) const = default;
};

// Everything about a slice but its payload; repeated in every fragment.
struct SliceHeader {
  SliceKey key;
  PartDTypes dtypes{};
  std::array<std::uint32_t, kParts> part_bytes{};
  std::uint64_t checksum = 0;   // checksum() of base/digest.h over the payload up to this fragment's end
  std::int64_t sent_at_ns = 0;  // sender's clock when the slice's first fragment was handed out
  std::uint32_t offset = 0;     // of this fragment in the payload
  std::uint32_t length = 0;     // of this fragment; it never crosses from the first part into the second

  std::uint64_t payload_bytes() const { return std::uint64_t{part_bytes[0]} + part_bytes[1]; }
  bool operator==(const SliceHeader&) const = default;
};

struct Slice {
  SliceHeader header;
  ByteSpan payload;  // of this fragment; borrows from the frame it was decoded from
};

enum class WorkState : std::uint8_t { kComputing = 1, kWaitingForInput = 2, kIdle = 3 };

struct Progress {
  std::uint64_t counter = 0;  // of finished units of work (layers of chunks or steps); never decreases
  WorkState state = WorkState::kIdle;
  std::uint32_t predicted_next_us = 0;  // until the counter moves again

  bool operator==(const Progress&) const = default;
};

// All prefill slices of this transfer have been sent.
struct Done {
  std::uint64_t slices = 0;
  std::uint64_t payload_bytes = 0;
  std::int64_t last_compute_end_ns = 0;  // sender's clock when its last prefill compute ended
  std::uint32_t late_ppm = 0;            // with Pace::kEmulated: how much of the prefill real work came too late

  bool operator==(const Done&) const = default;
};

struct Failed {
  WireError error;
  bool operator==(const Failed&) const = default;
};

struct Released {
  bool operator==(const Released&) const = default;
};

struct Pong {
  std::int64_t receiver_time_ns = 0;  // of the Ping it answers
  std::int64_t sender_time_ns = 0;

  bool operator==(const Pong&) const = default;
};

// What the sender guesses to stand in the text from `position`, as the latest Draft asked; it may be nothing.
struct Guesses {
  std::uint32_t position = 0;
  std::uint32_t reading_us = 0;  // of the time it took: to read what had come in the Draft
  std::vector<Token> tokens;

  bool operator==(const Guesses&) const = default;
};

using Body = std::variant<Hello, Open, Prompt, Resume, Credit, Step, Draft, Commit, Cancel, Ping, Accepted, Refused,
                          Slice, Progress, Done, Failed, Released, Pong, Guesses>;

struct Message {
  TransferId transfer;
  std::uint32_t generation = 0;
  Body body;
};

// "Open", "Slice", ...
std::string_view message_name(const Body& body);

// The side of a transfer that a message speaks to; a node looks it up among its senders or its receivers.
enum class Addressee { kConnection, kSender, kReceiver };
Addressee addressee(const Body& body);

// The frame of a message. Strings and lists beyond the format's limits are a caller's mistake that check(open) finds.
Bytes encode(const Message& message);

// Bytes before a fragment's payload in its frame, so that header and borrowed payload can be written one after another.
inline constexpr std::size_t kSliceHeaderBytes = 72;
Bytes encode_slice_header(const TransferId& transfer, std::uint32_t generation, const SliceHeader& header);

// Reads one frame; every length, count, enumeration and reserved field is checked, so that encode(decode(frame)) gives
// the frame back. kProtocol where it is malformed. A Slice borrows its payload from `frame`.
Result<Message> decode(ByteSpan frame);

// Whether it asks for guesses, and not for layers.
bool wants_guesses(const Open& open);

// Meaning, beyond form: the plan covers `layers` layers, indices and counts make sense together, no unknown critical
// extension. kProtocol or kUnsupported.
Result<void> check(const Open& open, std::uint32_t layers);

// The version that both sides speak: the highest common one. kUnsupported where there is none, or where their Hello has
// a critical extension.
Result<std::uint16_t> negotiate(const Hello& ours, const Hello& theirs);

// What a node answers to a message of a transfer that it does not know (any more): Released to Commit, Refused to the
// other words of a receiver, Cancel to those of a sender, nothing where an answer would be answered again.
std::optional<Message> answer_unknown(const Message& message);

}  // namespace baton::handoff
