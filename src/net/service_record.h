// What a node says of itself on the local network, in the TXT record of its DNS-SD service (RFC 6763, section 6):
// docs/formats/discovery.md. Bytes in, values out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/result.h"
#include "net/endpoint.h"
#include "net/fingerprint.h"

namespace baton::net {

inline constexpr char kServiceType[] = "_baton._tcp";
inline constexpr std::uint16_t kServiceVersion = 1;
inline constexpr std::size_t kMaxServiceAddresses = 8;
inline constexpr std::size_t kMaxServiceRecordBytes = 1300;  // as RFC 6763 advises: it fits into one packet

struct ServiceRecord {
  Fingerprint node;
  std::string cluster;              // the first digits of its id
  std::vector<Endpoint> addresses;  // at most kMaxServiceAddresses
  bool operator==(const ServiceRecord&) const = default;
};

// What a cluster's id is called there.
std::string service_cluster(const Sha256& id);

// Addresses beyond the bounds are left out.
Bytes encode(const ServiceRecord& record);
// kProtocol for what is no such record; kUnsupported for another version. Keys that are not known are passed over.
Result<ServiceRecord> decode_service_record(ByteSpan bytes);

}  // namespace baton::net
