// The messages by which a node gets a model from another: docs/formats/model-fetch.md. Bytes in, values out.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/result.h"
#include "store/manifest.h"

namespace baton::store {

// The first message, from who wants a model: by its name there, or its digest's digits.
struct Ask {
  std::string name;
  bool operator==(const Ask&) const = default;
};

struct Offer {
  std::vector<std::string> names = {};
  std::vector<ManifestPart> parts = {};  // in order

  Sha256 digest() const { return Manifest{.parts = parts}.digest(); }
  std::uint64_t bytes() const { return Manifest{.parts = parts}.bytes(); }
  bool operator==(const Offer&) const = default;
};

struct RefusedFetch {
  Error error;
  bool operator==(const RefusedFetch& other) const {
    return error.code == other.error.code && error.message == other.error.message;
  }
};

// From a byte on to the part's end.
struct Read {
  std::uint32_t part = 0;
  std::uint64_t offset = 0;
  bool operator==(const Read&) const = default;
};

// The next bytes of what was asked for; borrowed from the frame.
struct Data {
  ByteSpan bytes;
};

// Nothing more comes of it.
struct EndOfPart {
  bool operator==(const EndOfPart&) const = default;
};

using FetchMessage = std::variant<Ask, Offer, RefusedFetch, Read, Data, EndOfPart>;

inline constexpr std::size_t kDataBytes = 128 * 1024;  // of one Data at most

Bytes encode(const FetchMessage& message);
// Errors: kProtocol.
Result<FetchMessage> decode(ByteSpan frame);

}  // namespace baton::store
