// From messages to bytes.
#include <algorithm>
#include <span>

#include "handoff/messages.h"
#include "handoff/wire_format.h"

namespace baton::handoff {

namespace {

using wire::Type;

struct TypeOf {
  Type operator()(const Hello&) const { return Type::kHello; }
  Type operator()(const Open&) const { return Type::kOpen; }
  Type operator()(const Prompt&) const { return Type::kPrompt; }
  Type operator()(const Resume&) const { return Type::kResume; }
  Type operator()(const Credit&) const { return Type::kCredit; }
  Type operator()(const Step&) const { return Type::kStep; }
  Type operator()(const Draft&) const { return Type::kDraft; }
  Type operator()(const Commit&) const { return Type::kCommit; }
  Type operator()(const Cancel&) const { return Type::kCancel; }
  Type operator()(const Ping&) const { return Type::kPing; }
  Type operator()(const Accepted&) const { return Type::kAccepted; }
  Type operator()(const Refused&) const { return Type::kRefused; }
  Type operator()(const Slice&) const { return Type::kSlice; }
  Type operator()(const Progress&) const { return Type::kProgress; }
  Type operator()(const Done&) const { return Type::kDone; }
  Type operator()(const Failed&) const { return Type::kFailed; }
  Type operator()(const Released&) const { return Type::kReleased; }
  Type operator()(const Pong&) const { return Type::kPong; }
  Type operator()(const Guesses&) const { return Type::kGuesses; }
};

void put(ByteWriter& out, const Id& id) { out.write_bytes(id.bytes); }

void put(ByteWriter& out, const std::string& text, std::size_t max) {
  out.write_string<std::uint16_t>(std::string_view(text).substr(0, max));
}

void put(ByteWriter& out, const WireError& error) {
  const auto code = std::ranges::find(wire::kErrorCodes, error.code) - wire::kErrorCodes.begin();
  out.write(static_cast<std::uint8_t>(code));
  put(out, error.message, wire::kErrorBytes);
}

void put(ByteWriter& out, const std::vector<Extension>& extensions) {
  out.write(static_cast<std::uint16_t>(extensions.size()));
  for (const Extension& extension : extensions) {
    out.write(extension.id);
    out.write(static_cast<std::uint32_t>(extension.value.size()));
    out.write_bytes(extension.value);
  }
}

void put(ByteWriter& out, const std::vector<Token>& tokens) {
  out.write(static_cast<std::uint32_t>(tokens.size()));
  out.write_bytes(std::as_bytes(std::span(tokens)));
}

void put(ByteWriter& out, const plan::Stages& stages) {
  out.write(static_cast<std::uint16_t>(stages.size()));
  for (const plan::Stage& stage : stages) {
    out.write(stage.node);
    out.write(stage.layers.begin);
    out.write(stage.layers.end);
  }
}

void put(ByteWriter& out, const plan::Plan& plan) {
  out.write(static_cast<std::uint16_t>(plan.nodes.size()));
  for (const plan::NodeRef& node : plan.nodes) {
    put(out, node.name, wire::kNameBytes);
    put(out, node.address, wire::kAddressBytes);
    put(out, node.fingerprint, wire::kFingerprintBytes);
  }
  put(out, plan.prefill);
  put(out, plan.decode);
}

void put(ByteWriter& out, const std::vector<HeldRange>& held) {
  out.write(static_cast<std::uint32_t>(held.size()));
  for (const HeldRange& range : held) {
    out.write(range.kind);
    out.write(range.layer);
    out.write(range.up_to_position);
  }
}

struct WriteBody {
  ByteWriter& out;

  void operator()(const Hello& hello) {
    out.write(wire::kMagic);
    out.write(hello.min_version);
    out.write(hello.max_version);
    put(out, hello.software, wire::kSoftwareBytes);
    put(out, hello.extensions);
  }
  void operator()(const Open& open) {
    put(out, open.request);
    put(out, open.decision);
    put(out, open.agent, wire::kAgentBytes);
    put(out, open.label, wire::kLabelBytes);
    out.write(static_cast<std::uint32_t>(open.lease.size()));
    out.write_bytes(open.lease);
    out.write(open.lease_lifetime_ms);
    out.write_bytes(open.model.bytes);
    put(out, open.plan);
    out.write(open.sender);
    out.write(open.receiver);
    out.write(open.prompt_tokens);
    out.write(open.prefix_tokens);
    out.write_bytes(open.prefix.bytes);
    out.write(open.chunk_tokens);
    out.write(open.max_new_tokens);
    out.write(open.codec);
    out.write(open.hidden);
    out.write(open.determinism);
    out.write(open.allowed_bytes);
    put(out, open.extensions);
  }
  void operator()(const Prompt& prompt) {
    out.write(prompt.offset);
    put(out, prompt.tokens);
  }
  void operator()(const Resume& resume) {
    out.write(resume.allowed_bytes);
    put(out, resume.held);
  }
  void operator()(const Credit& credit) {
    out.write(credit.allowed_bytes);
    put(out, credit.held);
  }
  void operator()(const Step& step) {
    out.write(step.position);
    out.write(step.token);
  }
  void operator()(const Draft& draft) {
    out.write(draft.position);
    out.write(draft.most);
    put(out, draft.tokens);
  }
  void operator()(const Commit&) {}
  void operator()(const Cancel& cancel) { put(out, cancel.error); }
  void operator()(const Ping& ping) { out.write(ping.receiver_time_ns); }
  void operator()(const Accepted& accepted) {
    out.write(accepted.prefix_tokens);
    out.write(accepted.predicted_chunk_us);
    out.write(accepted.predicted_step_us);
    out.write(accepted.pace);
  }
  void operator()(const Refused& refused) { put(out, refused.error); }
  void operator()(const SliceHeader& header) {
    out.write(header.key.kind);
    out.write(header.dtypes[0]);
    out.write(header.dtypes[1]);
    out.write(std::uint8_t{0});
    out.write(header.key.layer);
    out.write(header.key.first_position);
    out.write(header.key.tokens);
    out.write(header.part_bytes[0]);
    out.write(header.part_bytes[1]);
    out.write(header.checksum);
    out.write(header.sent_at_ns);
    out.write(header.offset);
    out.write(header.length);
  }
  void operator()(const Slice& slice) {
    (*this)(slice.header);
    out.write_bytes(slice.payload);
  }
  void operator()(const Progress& progress) {
    out.write(progress.counter);
    out.write(progress.state);
    out.write(progress.predicted_next_us);
  }
  void operator()(const Done& done) {
    out.write(done.slices);
    out.write(done.payload_bytes);
    out.write(done.last_compute_end_ns);
    out.write(done.late_ppm);
  }
  void operator()(const Failed& failed) { put(out, failed.error); }
  void operator()(const Released&) {}
  void operator()(const Pong& pong) {
    out.write(pong.receiver_time_ns);
    out.write(pong.sender_time_ns);
  }
  void operator()(const Guesses& guesses) {
    out.write(guesses.position);
    out.write(guesses.reading_us);
    put(out, guesses.tokens);
  }
};

void put_header(ByteWriter& out, Type type, const TransferId& transfer, std::uint32_t generation) {
  out.write(type);
  out.write(std::uint8_t{0});   // flags
  out.write(std::uint16_t{0});  // reserved
  out.write(generation);
  put(out, transfer);
}

}  // namespace

Bytes encode(const Message& message) {
  ByteWriter out;
  put_header(out, std::visit(TypeOf{}, message.body), message.transfer, message.generation);
  std::visit(WriteBody{out}, message.body);
  return std::move(out).take();
}

Bytes encode_slice_header(const TransferId& transfer, std::uint32_t generation, const SliceHeader& header) {
  ByteWriter out;
  put_header(out, Type::kSlice, transfer, generation);
  WriteBody{out}(header);
  static_assert(kSliceHeaderBytes == wire::kHeaderBytes + 48);
  return std::move(out).take();
}

}  // namespace baton::handoff
