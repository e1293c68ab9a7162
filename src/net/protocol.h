// What a connection is for. Both ends agree on it in the TLS handshake (ALPN, RFC 7301).
#pragma once

#include <cstdint>
#include <string_view>

namespace baton::net {

enum class Protocol : std::uint8_t {
  kWork,        // docs/formats/kv-stream.md
  kMembership,  // docs/formats/membership.md
  kLinkProbe,   // docs/formats/link-probe.md
  kModelFetch,  // docs/formats/model-fetch.md
};

constexpr std::string_view protocol_name(Protocol protocol) {
  switch (protocol) {
    case Protocol::kWork: return "baton/1";
    case Protocol::kMembership: return "baton-cluster/1";
    case Protocol::kLinkProbe: return "baton-probe/1";
    case Protocol::kModelFetch: return "baton-models/1";
  }
  return "";
}

}  // namespace baton::net
