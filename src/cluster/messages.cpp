#include "cluster/messages.h"

#include <algorithm>
#include <format>

namespace baton::cluster {

namespace {

constexpr std::uint32_t kMagic = 0x43544142;  // "BATC"
constexpr std::size_t kMaxSoftwareBytes = 64;
constexpr std::size_t kMaxNameBytes = 64;
constexpr std::size_t kMaxNodes = 4096;
constexpr std::size_t kMaxCertificateBytes = 4096;
constexpr std::size_t kMaxErrorBytes = 1024;
constexpr std::string_view kJoinPurpose = "baton join 1";

std::string_view cut(std::string_view text, std::size_t size) { return text.substr(0, size); }

std::unexpected<Error> malformed(std::string_view what) {
  return fail(ErrorCode::kProtocol, std::format("a membership message is malformed: {}", what));
}

template <std::size_t kSize>
Result<std::array<std::byte, kSize>> read_array(ByteReader& in) {
  const ByteSpan bytes = TRY(in.read_bytes(kSize));
  std::array<std::byte, kSize> array;
  std::ranges::copy(bytes, array.begin());
  return array;
}

template <typename Length>
Result<std::string> read_text(ByteReader& in, std::size_t limit) {
  const std::string_view text = TRY(in.read_string<Length>());
  if (text.size() > limit) return malformed("a text is too long");
  return std::string(text);
}

Result<Bytes> read_blob(ByteReader& in, std::size_t limit) {
  const auto size = TRY(in.read<std::uint32_t>());
  if (size > limit) return malformed("a field is too long");
  const ByteSpan bytes = TRY(in.read_bytes(size));
  return Bytes(bytes.begin(), bytes.end());
}

struct Writer {
  ByteWriter& out;
  void operator()(const Hello& hello) const {
    out.write(kMagic);
    out.write(hello.lowest_version);
    out.write(hello.highest_version);
    out.write_string<std::uint8_t>(cut(hello.software, kMaxSoftwareBytes));
  }
  void operator()(const Ping& ping) const {
    out.write(ping.number);
    out.write(ping.time_s);
    out.write_bytes(ping.list.bytes);
  }
  void operator()(const Pong& pong) const { out.write(pong.number); }
  void operator()(const Statements& statements) const {
    out.write(static_cast<std::uint16_t>(statements.statements.size()));
    for (const Bytes& statement : statements.statements) {
      out.write(static_cast<std::uint32_t>(statement.size()));
      out.write_bytes(statement);
    }
  }
  void operator()(const State& state) const {
    out.write(static_cast<std::uint16_t>(state.sections.size()));
    for (const Section& section : state.sections) {
      out.write_string<std::uint8_t>(cut(section.name, kMaxNameBytes));
      out.write(section.version);
      out.write_string<std::uint32_t>(section.json);
    }
  }
  void operator()(const Addresses& addresses) const {
    out.write(static_cast<std::uint16_t>(addresses.of.size()));
    for (const auto& [id, endpoints] : addresses.of) {
      out.write_bytes(id.digest.bytes);
      const std::size_t count = std::min(endpoints.size(), kMaxAddresses);
      out.write(static_cast<std::uint8_t>(count));
      for (const net::Endpoint& endpoint : std::span(endpoints).first(count)) {
        out.write_string<std::uint16_t>(endpoint.to_string());
      }
    }
  }
  void operator()(const Renew&) const {}
  void operator()(const Certificate& certificate) const {
    out.write(static_cast<std::uint32_t>(certificate.der.size()));
    out.write_bytes(certificate.der);
  }
  void operator()(const Join& join) const {
    out.write_bytes(join.key.bytes);
    out.write_bytes(join.proof.bytes);
    out.write_string<std::uint8_t>(cut(join.name, kMaxNameBytes));
  }
  void operator()(const Ask& ask) const { out.write_string<std::uint32_t>(cut(ask.json, kMaxTextBytes)); }
  void operator()(const Answer& answer) const { out.write_string<std::uint32_t>(cut(answer.json, kMaxTextBytes)); }
  void operator()(const Refused& refused) const {
    out.write(static_cast<std::uint8_t>(refused.error.code));
    out.write_string<std::uint16_t>(cut(refused.error.message, kMaxErrorBytes));
  }
};

Result<Hello> read_hello(ByteReader& in) {
  if (TRY(in.read<std::uint32_t>()) != kMagic) return malformed("it does not greet as baton does");
  Hello hello;
  hello.lowest_version = TRY(in.read<std::uint16_t>());
  hello.highest_version = TRY(in.read<std::uint16_t>());
  hello.software = TRY(read_text<std::uint8_t>(in, kMaxSoftwareBytes));
  if (hello.lowest_version > hello.highest_version) return malformed("its versions are out of order");
  return hello;
}

Result<Statements> read_statements(ByteReader& in) {
  Statements statements;
  const auto count = TRY(in.read<std::uint16_t>());
  if (count > kMaxStatementsAtOnce) return malformed("too many statements at once");
  for (std::uint16_t i = 0; i < count; ++i) statements.statements.push_back(TRY(read_blob(in, in.remaining())));
  return statements;
}

Result<State> read_state(ByteReader& in) {
  State state;
  const auto count = TRY(in.read<std::uint16_t>());
  if (count > kMaxSections) return malformed("a state has too many sections");
  for (std::uint16_t i = 0; i < count; ++i) {
    Section section;
    section.name = TRY(read_text<std::uint8_t>(in, kMaxNameBytes));
    section.version = TRY(in.read<std::uint64_t>());
    section.json = TRY(read_text<std::uint32_t>(in, kMaxSectionBytes));
    state.sections.push_back(std::move(section));
  }
  return state;
}

Result<Addresses> read_addresses(ByteReader& in) {
  Addresses addresses;
  const auto count = TRY(in.read<std::uint16_t>());
  if (count > kMaxNodes) return malformed("addresses of too many nodes");
  for (std::uint16_t i = 0; i < count; ++i) {
    const net::Fingerprint id{{TRY(read_array<32>(in))}};
    const auto endpoints = TRY(in.read<std::uint8_t>());
    if (endpoints > kMaxAddresses) return malformed("a node has too many addresses");
    for (std::uint8_t k = 0; k < endpoints; ++k) {
      const auto endpoint = net::Endpoint::parse(TRY(in.read_string<std::uint16_t>()));
      if (!endpoint) return malformed("an address is none");
      addresses.of[id].push_back(*endpoint);
    }
  }
  return addresses;
}

Result<Join> read_join(ByteReader& in) {
  Join join;
  join.key.bytes = TRY(read_array<32>(in));
  join.proof.bytes = TRY(read_array<64>(in));
  join.name = TRY(read_text<std::uint8_t>(in, kMaxNameBytes));
  return join;
}

Result<Refused> read_refused(ByteReader& in) {
  const auto code = TRY(in.read<std::uint8_t>());
  if (code > static_cast<std::uint8_t>(ErrorCode::kInternal)) return malformed("there is no such error");
  return Refused{{static_cast<ErrorCode>(code), TRY(read_text<std::uint16_t>(in, kMaxErrorBytes)), {}}};
}

Result<Message> read_body(std::uint8_t type, ByteReader& in) {
  switch (type) {
    case 1: return TRY(read_hello(in));
    case 2: {
      Ping ping;
      ping.number = TRY(in.read<std::uint64_t>());
      ping.time_s = TRY(in.read<std::int64_t>());
      ping.list.bytes = TRY(read_array<32>(in));
      return ping;
    }
    case 3: return Pong { TRY(in.read<std::uint64_t>())
      };
    case 4: return TRY(read_statements(in));
    case 5: return TRY(read_state(in));
    case 6: return TRY(read_addresses(in));
    case 7: return Renew{};
    case 8: return Certificate { TRY(read_blob(in, kMaxCertificateBytes))
      };
    case 9: return TRY(read_join(in));
    case 10: return Ask { TRY(read_text<std::uint32_t>(in, kMaxTextBytes))
      };
    case 11: return Answer { TRY(read_text<std::uint32_t>(in, kMaxTextBytes))
      };
    case 12: return TRY(read_refused(in));
    default: return malformed(std::format("there is no type {}", type));
  }
}

}  // namespace

Bytes encode(const Message& message) {
  ByteWriter out;
  out.write(static_cast<std::uint8_t>(message.index() + 1));
  std::visit(Writer{out}, message);
  return std::move(out).take();
}

Result<Message> decode(ByteSpan frame) {
  ByteReader in(frame);
  const auto read = [&]() -> Result<Message> { return read_body(TRY(in.read<std::uint8_t>()), in); };
  auto message = read();
  if (!message && message.error().code == ErrorCode::kCorrupt) return malformed("it is cut short");
  if (message && in.remaining() != 0) return malformed("bytes follow its end");
  return message;
}

Signature prove_join(const SigningKey& key, const net::Fingerprint& token_key) {
  return key.sign(kJoinPurpose, token_key.digest.bytes);
}

bool proves_join(const Join& join, const net::Fingerprint& token_key) {
  return verify(join.key, kJoinPurpose, token_key.digest.bytes, join.proof);
}

}  // namespace baton::cluster
