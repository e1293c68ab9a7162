// From bytes to messages.
#include <algorithm>
#include <cstring>
#include <format>

#include "handoff/messages.h"
#include "handoff/wire_format.h"

namespace baton::handoff {

namespace {

using wire::Type;

std::unexpected<Error> malformed(std::string what) { return fail(ErrorCode::kProtocol, std::move(what)); }

Result<Id> get_id(ByteReader& in) {
  Id id;
  std::ranges::copy(TRY(in.read_bytes(id.bytes.size())), id.bytes.begin());
  return id;
}

Result<Sha256> get_sha256(ByteReader& in) {
  Sha256 digest;
  std::ranges::copy(TRY(in.read_bytes(digest.bytes.size())), digest.bytes.begin());
  return digest;
}

Result<std::string> get_string(ByteReader& in, std::size_t max, std::string_view what) {
  const std::string_view text = TRY(in.read_string<std::uint16_t>());
  if (text.size() > max) return malformed(std::format("{} has {} bytes, {} are allowed", what, text.size(), max));
  return std::string(text);
}

template <typename Enum>
Result<Enum> get_enum(ByteReader& in, Enum first, Enum last, std::string_view what) {
  const auto value = TRY(in.read<std::uint8_t>());
  if (value < static_cast<std::uint8_t>(first) || value > static_cast<std::uint8_t>(last)) {
    return malformed(std::format("{} is {}, which means nothing", what, value));
  }
  return static_cast<Enum>(value);
}

// A count of things that take at least `bytes_each`, so that a lying count cannot ask for memory.
template <typename Count>
Result<std::size_t> get_count(ByteReader& in, std::size_t bytes_each, std::size_t max, std::string_view what) {
  const std::size_t count = TRY(in.read<Count>());
  if (count > max || count > in.remaining() / bytes_each) {
    return malformed(std::format("{} {} do not fit", count, what));
  }
  return count;
}

// A clock's nanoseconds. What lies further away than years of uptime is made up, and would overflow what is reckoned
// with it.
Result<std::int64_t> get_time(ByteReader& in) {
  constexpr std::int64_t kLatest = std::int64_t{1} << 58U;
  const auto time_ns = TRY(in.read<std::int64_t>());
  if (time_ns < -kLatest || time_ns > kLatest) return malformed(std::format("{} ns is no time of a clock", time_ns));
  return time_ns;
}

Result<std::vector<Token>> get_tokens(ByteReader& in, std::size_t max) {
  std::vector<Token> tokens(TRY(get_count<std::uint32_t>(in, sizeof(Token), max, "tokens")));
  const ByteSpan bytes = TRY(in.read_bytes(tokens.size() * sizeof(Token)));
  if (!bytes.empty()) std::memcpy(tokens.data(), bytes.data(), bytes.size());
  return tokens;
}

Result<WireError> get_error(ByteReader& in) {
  const auto code = TRY(in.read<std::uint8_t>());
  if (code >= wire::kErrorCodes.size()) return malformed(std::format("error code {} means nothing", code));
  const std::string message = TRY(get_string(in, wire::kErrorBytes, "an error message"));
  return WireError{wire::kErrorCodes[code], message};
}

Result<std::vector<Extension>> get_extensions(ByteReader& in) {
  std::vector<Extension> extensions(TRY(get_count<std::uint16_t>(in, 6, wire::kExtensions, "extensions")));
  for (Extension& extension : extensions) {
    extension.id = TRY(in.read<std::uint16_t>());
    const auto length = TRY(in.read<std::uint32_t>());
    const ByteSpan value = TRY(in.read_bytes(length));
    if (value.size() > wire::kExtensionBytes) return malformed("an extension is too long");
    extension.value.assign(value.begin(), value.end());
  }
  return extensions;
}

Result<plan::Stages> get_stages(ByteReader& in) {
  plan::Stages stages(TRY(get_count<std::uint16_t>(in, 10, plan::kMaxNodes, "stages")));
  for (plan::Stage& stage : stages) {
    stage.node = TRY(in.read<plan::NodeIndex>());
    stage.layers.begin = TRY(in.read<std::uint32_t>());
    stage.layers.end = TRY(in.read<std::uint32_t>());
  }
  return stages;
}

Result<plan::Plan> get_plan(ByteReader& in) {
  plan::Plan plan;
  plan.nodes.resize(TRY(get_count<std::uint16_t>(in, 6, plan::kMaxNodes, "nodes")));
  for (plan::NodeRef& node : plan.nodes) {
    node.name = TRY(get_string(in, wire::kNameBytes, "a node's name"));
    node.address = TRY(get_string(in, wire::kAddressBytes, "a node's address"));
    node.fingerprint = TRY(get_string(in, wire::kFingerprintBytes, "a node's fingerprint"));
  }
  plan.prefill = TRY(get_stages(in));
  plan.decode = TRY(get_stages(in));
  return plan;
}

Result<SliceKind> get_kind(ByteReader& in) {
  return get_enum(in, SliceKind::kKv, SliceKind::kLogits, "the kind of a slice");
}

Result<DType> get_dtype(ByteReader& in) { return get_enum(in, DType::kNone, DType::kQ4_0, "a number format"); }

Result<std::vector<HeldRange>> get_held(ByteReader& in) {
  std::vector<HeldRange> held(TRY(get_count<std::uint32_t>(in, 9, wire::kHeldRanges, "held ranges")));
  for (HeldRange& range : held) {
    range.kind = TRY(get_kind(in));
    range.layer = TRY(in.read<std::uint32_t>());
    range.up_to_position = TRY(in.read<std::uint32_t>());
  }
  return held;
}

Result<Body> get_hello(ByteReader& in) {
  if (TRY(in.read<std::uint32_t>()) != wire::kMagic) return malformed("the peer does not speak baton's protocol");
  Hello hello;
  hello.min_version = TRY(in.read<std::uint16_t>());
  hello.max_version = TRY(in.read<std::uint16_t>());
  if (hello.min_version > hello.max_version) return malformed("the range of versions is empty");
  hello.software = TRY(get_string(in, wire::kSoftwareBytes, "the software's name"));
  hello.extensions = TRY(get_extensions(in));
  return hello;
}

Result<Body> get_open(ByteReader& in) {
  Open open;
  open.request = TRY(get_id(in));
  open.decision = TRY(get_id(in));
  open.agent = TRY(get_string(in, wire::kAgentBytes, "the agent"));
  open.label = TRY(get_string(in, wire::kLabelBytes, "the label"));
  const auto lease_bytes = TRY(in.read<std::uint32_t>());
  const ByteSpan lease = TRY(in.read_bytes(lease_bytes));
  if (lease.size() > wire::kLeaseBytes) return malformed("the lease is too long");
  open.lease.assign(lease.begin(), lease.end());
  open.lease_lifetime_ms = TRY(in.read<std::uint32_t>());
  open.model = TRY(get_sha256(in));
  open.plan = TRY(get_plan(in));
  open.sender = TRY(in.read<plan::NodeIndex>());
  open.receiver = TRY(in.read<plan::NodeIndex>());
  open.prompt_tokens = TRY(in.read<std::uint32_t>());
  open.prefix_tokens = TRY(in.read<std::uint32_t>());
  open.prefix = TRY(get_sha256(in));
  open.chunk_tokens = TRY(in.read<std::uint32_t>());
  open.max_new_tokens = TRY(in.read<std::uint32_t>());
  open.codec = TRY(get_dtype(in));
  open.hidden = TRY(get_dtype(in));
  open.determinism = TRY(get_enum(in, Determinism::kFast, Determinism::kDeterministic, "the determinism"));
  open.allowed_bytes = TRY(in.read<std::uint64_t>());
  open.extensions = TRY(get_extensions(in));
  return open;
}

Result<Body> get_prompt(ByteReader& in) {
  Prompt prompt;
  prompt.offset = TRY(in.read<std::uint32_t>());
  prompt.tokens = TRY(get_tokens(in, kTokensPerPromptFrame));
  return prompt;
}

Result<Body> get_draft(ByteReader& in) {
  Draft draft;
  draft.position = TRY(in.read<std::uint32_t>());
  draft.most = TRY(in.read<std::uint32_t>());
  if (draft.most > kMostGuesses) {
    return malformed(std::format("{} guesses are asked for, {} are allowed", draft.most, kMostGuesses));
  }
  draft.tokens = TRY(get_tokens(in, kTokensPerPromptFrame));
  return draft;
}

Result<Body> get_guesses(ByteReader& in) {
  Guesses guesses;
  guesses.position = TRY(in.read<std::uint32_t>());
  guesses.reading_us = TRY(in.read<std::uint32_t>());
  guesses.tokens = TRY(get_tokens(in, kMostGuesses));
  return guesses;
}

Result<Body> get_accepted(ByteReader& in) {
  Accepted accepted;
  accepted.prefix_tokens = TRY(in.read<std::uint32_t>());
  accepted.predicted_chunk_us = TRY(in.read<std::uint32_t>());
  accepted.predicted_step_us = TRY(in.read<std::uint32_t>());
  accepted.pace = TRY(get_enum(in, Pace::kReal, Pace::kEmulated, "the pace"));
  return accepted;
}

Result<Body> get_slice(ByteReader& in) {
  Slice slice;
  SliceHeader& header = slice.header;
  header.key.kind = TRY(get_kind(in));
  header.dtypes[0] = TRY(get_dtype(in));
  header.dtypes[1] = TRY(get_dtype(in));
  if (TRY(in.read<std::uint8_t>()) != 0) return malformed("a reserved byte of a slice is not zero");
  header.key.layer = TRY(in.read<std::uint32_t>());
  header.key.first_position = TRY(in.read<std::uint32_t>());
  header.key.tokens = TRY(in.read<std::uint32_t>());
  header.part_bytes[0] = TRY(in.read<std::uint32_t>());
  header.part_bytes[1] = TRY(in.read<std::uint32_t>());
  header.checksum = TRY(in.read<std::uint64_t>());
  header.sent_at_ns = TRY(get_time(in));
  header.offset = TRY(in.read<std::uint32_t>());
  header.length = TRY(in.read<std::uint32_t>());
  const std::uint64_t end = std::uint64_t{header.offset} + header.length;
  if (header.length == 0 || header.length > kMaxFragmentBytes || end > header.payload_bytes() ||
      (header.offset < header.part_bytes[0] && end > header.part_bytes[0])) {
    return malformed(std::format("a fragment of bytes {}..{} does not fit parts of {} and {} bytes", header.offset, end,
                                 header.part_bytes[0], header.part_bytes[1]));
  }
  if (in.remaining() != header.length) {
    return malformed(std::format("a fragment of {} bytes came with {}", header.length, in.remaining()));
  }
  slice.payload = TRY(in.read_bytes(header.length));
  return slice;
}

Result<Body> get_progress(ByteReader& in) {
  Progress progress;
  progress.counter = TRY(in.read<std::uint64_t>());
  progress.state = TRY(get_enum(in, WorkState::kComputing, WorkState::kIdle, "the state of work"));
  progress.predicted_next_us = TRY(in.read<std::uint32_t>());
  return progress;
}

Result<Body> get_done(ByteReader& in) {
  Done done;
  done.slices = TRY(in.read<std::uint64_t>());
  done.payload_bytes = TRY(in.read<std::uint64_t>());
  done.last_compute_end_ns = TRY(get_time(in));
  done.late_ppm = TRY(in.read<std::uint32_t>());
  return done;
}

Result<Body> get_body(Type type, ByteReader& in) {
  switch (type) {
    case Type::kHello: return get_hello(in);
    case Type::kOpen: return get_open(in);
    case Type::kPrompt: return get_prompt(in);
    case Type::kResume: {
      const auto allowed = TRY(in.read<std::uint64_t>());
      return Resume { allowed, TRY(get_held(in)) };
    }
    case Type::kCredit: {
      const auto allowed = TRY(in.read<std::uint64_t>());
      return Credit { allowed, TRY(get_held(in)) };
    }
    case Type::kStep: {
      const auto position = TRY(in.read<std::uint32_t>());
      return Step { position, TRY(in.read<Token>()) };
    }
    case Type::kDraft: return get_draft(in);
    case Type::kCommit: return Commit{};
    case Type::kCancel: return Cancel { TRY(get_error(in))
      };
    case Type::kPing: return Ping { TRY(get_time(in))
      };
    case Type::kAccepted: return get_accepted(in);
    case Type::kRefused: return Refused { TRY(get_error(in))
      };
    case Type::kSlice: return get_slice(in);
    case Type::kProgress: return get_progress(in);
    case Type::kDone: return get_done(in);
    case Type::kFailed: return Failed { TRY(get_error(in))
      };
    case Type::kReleased: return Released{};
    case Type::kPong: {
      const auto receiver_time = TRY(get_time(in));
      return Pong { receiver_time, TRY(get_time(in)) };
    }
    case Type::kGuesses: return get_guesses(in);
  }
  return malformed(std::format("message type {} means nothing in version 1", static_cast<unsigned>(type)));
}

Result<Message> get_message(ByteSpan frame) {
  ByteReader in(frame);
  const auto type = TRY(in.read<Type>());
  const auto flags = TRY(in.read<std::uint8_t>());
  const auto reserved = TRY(in.read<std::uint16_t>());
  if (flags != 0 || reserved != 0) return malformed("reserved bits of a message are not zero");
  Message message;
  message.generation = TRY(in.read<std::uint32_t>());
  message.transfer = TRY(get_id(in));
  message.body = TRY(get_body(type, in));
  if (in.remaining() != 0) return malformed(std::format("{} bytes follow a message", in.remaining()));
  const bool of_connection = type == Type::kHello;
  if (of_connection != (message.transfer == TransferId{}) || of_connection != (message.generation == 0)) {
    return malformed("a message has a transfer where it needs none, or none where it needs one");
  }
  return message;
}

}  // namespace

Result<Message> decode(ByteSpan frame) {
  if (frame.size() > kMaxFrameBytes) return malformed(std::format("a frame of {} bytes is too long", frame.size()));
  auto message = get_message(frame);
  // A read past the end says "corrupt", as for a file; here it is the peer that broke the protocol.
  if (!message) return malformed(std::move(message.error().message));
  return message;
}

}  // namespace baton::handoff
