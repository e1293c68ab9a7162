// What a connection is for. Both ends agree on it in the TLS handshake (ALPN, RFC 7301).
#pragma once

#include <cstdint>
#include <string_view>

namespace baton::net {

enum class Protocol : std::uint8_t {
  kWork,        // docs/formats/kv-stream.md
  kMembership,  // docs/formats/membership.md
};

constexpr std::string_view protocol_name(Protocol protocol) {
  return protocol == Protocol::kWork ? "baton/1" : "baton-cluster/1";
}

}  // namespace baton::net
