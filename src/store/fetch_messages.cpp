#include "store/fetch_messages.h"

#include <algorithm>

#include "store/model_name.h"

namespace baton::store {

namespace {

constexpr std::uint32_t kMagic = 0x464d5442;  // "BTMF"
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kMaxNames = 64;
constexpr std::size_t kMaxParts = 1024;
constexpr std::size_t kMaxMessageBytes = 4096;

enum class Type : std::uint8_t { kAsk = 1, kOffer = 2, kRefused = 3, kRead = 4, kData = 5, kEnd = 6 };

std::unexpected<Error> broken(const char* why) { return fail(ErrorCode::kProtocol, why); }

struct Encoder {
  ByteWriter out;

  void operator()(const Ask& ask) {
    out.write(Type::kAsk);
    out.write(kMagic);
    out.write(kVersion);
    out.write_string<std::uint16_t>(ask.name);
  }
  void operator()(const Offer& offer) {
    out.write(Type::kOffer);
    out.write(static_cast<std::uint16_t>(std::min(offer.names.size(), kMaxNames)));
    for (std::size_t i = 0; i < std::min(offer.names.size(), kMaxNames); ++i) {
      out.write_string<std::uint16_t>(offer.names[i]);
    }
    out.write(static_cast<std::uint16_t>(offer.parts.size()));
    for (const ManifestPart& part : offer.parts) {
      out.write_string<std::uint16_t>(part.file);
      out.write(part.bytes);
      out.write_bytes(part.sha256.bytes);
    }
  }
  void operator()(const RefusedFetch& refused) {
    out.write(Type::kRefused);
    out.write(static_cast<std::uint16_t>(refused.error.code));
    out.write_string<std::uint16_t>(std::string_view(refused.error.message).substr(0, kMaxMessageBytes));
  }
  void operator()(const Read& read) {
    out.write(Type::kRead);
    out.write(read.part);
    out.write(read.offset);
  }
  void operator()(const Data& data) {
    out.write(Type::kData);
    out.write_bytes(data.bytes);
  }
  void operator()(const EndOfPart&) { out.write(Type::kEnd); }
};

Result<FetchMessage> decode_ask(ByteReader& in) {
  if (TRY(in.read<std::uint32_t>()) != kMagic) return broken("what asks for a model is something else");
  if (TRY(in.read<std::uint16_t>()) != kVersion)
    return broken("it asks for a model in another version of the protocol");
  Ask ask { std::string(TRY(in.read_string<std::uint16_t>())) };
  if (!is_plain_name(ask.name)) return broken("it asks for a model by something that is no name");
  return ask;
}

Result<FetchMessage> decode_offer(ByteReader& in) {
  Offer offer;
  const auto names = TRY(in.read<std::uint16_t>());
  if (names > kMaxNames) return broken("a model has too many names");
  for (std::uint16_t i = 0; i < names; ++i) {
    std::string name(TRY(in.read_string<std::uint16_t>()));
    if (!is_plain_name(name)) return broken("a model's name is none");
    offer.names.push_back(std::move(name));
  }
  const auto parts = TRY(in.read<std::uint16_t>());
  if (parts == 0 || parts > kMaxParts) return broken("a model has no parts, or too many");
  for (std::uint16_t i = 0; i < parts; ++i) {
    ManifestPart part;
    part.file = TRY(in.read_string<std::uint16_t>());
    part.bytes = TRY(in.read<std::uint64_t>());
    std::ranges::copy(TRY(in.read_bytes(part.sha256.bytes.size())), part.sha256.bytes.begin());
    const bool twice = std::ranges::contains(offer.parts, part.file, &ManifestPart::file);
    if (!is_plain_file_name(part.file) || part.file == kManifestFile || twice) {
      return broken("a model's part has a name that may not be");
    }
    if (part.bytes >= std::uint64_t{1} << 62) return broken("a model's part has an impossible size");
    offer.parts.push_back(std::move(part));
  }
  return offer;
}

Result<FetchMessage> decode_refused(ByteReader& in) {
  const auto code = TRY(in.read<std::uint16_t>());
  const std::string_view text = TRY(in.read_string<std::uint16_t>());
  if (code > static_cast<std::uint16_t>(ErrorCode::kInternal) || text.size() > kMaxMessageBytes) {
    return broken("a refusal is malformed");
  }
  std::string printable;
  for (const char c : text) printable += static_cast<unsigned char>(c) < ' ' || c == '\x7f' ? '?' : c;
  return RefusedFetch{{static_cast<ErrorCode>(code), std::move(printable), {}}};
}

Result<FetchMessage> decode_one(ByteReader& in, ByteSpan frame) {
  switch (TRY(in.read<Type>())) {
    case Type::kAsk: return decode_ask(in);
    case Type::kOffer: return decode_offer(in);
    case Type::kRefused: return decode_refused(in);
    case Type::kRead: {
      const auto part = TRY(in.read<std::uint32_t>());
      return Read { part, TRY(in.read<std::uint64_t>()) };
    }
    case Type::kData: {
      const ByteSpan bytes = frame.subspan(in.position());
      if (bytes.empty() || bytes.size() > kDataBytes) return broken("a piece of a model has an impossible size");
      return Data { TRY(in.read_bytes(bytes.size())) };
    }
    case Type::kEnd: return EndOfPart{};
  }
  return broken("it is a message of no known kind");
}

}  // namespace

Bytes encode(const FetchMessage& message) {
  Encoder encoder;
  std::visit(encoder, message);
  return std::move(encoder.out).take();
}

Result<FetchMessage> decode(ByteSpan frame) {
  ByteReader in(frame);
  auto message = decode_one(in, frame);
  if (message && in.remaining() > 0) return broken("a message has more bytes than it should");
  if (!message) return fail(ErrorCode::kProtocol, message.error().message);
  return message;
}

}  // namespace baton::store
