#include "net/service_record.h"

#include <algorithm>
#include <format>
#include <map>
#include <string_view>

#include "base/ascii.h"

namespace baton::net {

namespace {

constexpr std::size_t kMaxEntryBytes = 255;
constexpr std::size_t kClusterDigits = 16;
constexpr std::size_t kMaxClusterDigits = 64;

std::unexpected<Error> malformed(std::string_view what) {
  return fail(ErrorCode::kProtocol, std::format("a service record is malformed: {}", what));
}

// Whether there was room.
bool append(Bytes& bytes, const std::string& entry) {
  if (entry.size() > kMaxEntryBytes || bytes.size() + 1 + entry.size() > kMaxServiceRecordBytes) return false;
  bytes.push_back(static_cast<std::byte>(entry.size()));
  for (const char letter : entry) bytes.push_back(static_cast<std::byte>(letter));
  return true;
}

// By key in lower case; of several with one key the first counts (RFC 6763, 6.4).
Result<std::map<std::string, std::string>> entries_of(ByteSpan bytes) {
  std::map<std::string, std::string> entries;
  while (!bytes.empty()) {
    const auto size = static_cast<std::size_t>(bytes.front());
    if (size >= bytes.size()) return malformed("an entry is longer than the record");
    std::string entry;
    for (const std::byte letter : bytes.subspan(1, size)) entry += static_cast<char>(letter);
    bytes = bytes.subspan(1 + size);
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) continue;
    entries.emplace(ascii_lower(std::string_view(entry).substr(0, equals)), entry.substr(equals + 1));
  }
  return entries;
}

std::string address_key(std::size_t index) { return std::format("a{}", index); }

}  // namespace

std::string service_cluster(const Sha256& id) { return id.hex().substr(0, kClusterDigits); }

Bytes encode(const ServiceRecord& record) {
  Bytes bytes;
  append(bytes, std::format("v={}", kServiceVersion));
  append(bytes, "n=" + record.node.to_string());
  append(bytes, "c=" + record.cluster.substr(0, kMaxClusterDigits));
  std::size_t count = 0;
  for (const Endpoint& address : record.addresses) {
    if (count == kMaxServiceAddresses) break;
    if (append(bytes, std::format("{}={}", address_key(count), address.to_string()))) ++count;
  }
  return bytes;
}

Result<ServiceRecord> decode_service_record(ByteSpan bytes) {
  const auto entries = TRY(entries_of(bytes));
  const auto value = [&](const std::string& key) -> Result<std::string> {
    const auto found = entries.find(key);
    if (found == entries.end()) return malformed(std::format("it has no '{}'", key));
    return found->second;
  };
  const std::string version = TRY(value("v"));
  if (version != std::to_string(kServiceVersion)) {
    return fail(ErrorCode::kUnsupported, "a service record is of another version");
  }
  ServiceRecord record;
  record.node = TRY(Fingerprint::parse(TRY(value("n"))));
  record.cluster = TRY(value("c"));
  const bool is_id = record.cluster.size() <= kMaxClusterDigits && std::ranges::all_of(record.cluster, [](char c) {
                       return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                     });
  if (!is_id) return malformed("the cluster's id is not hexadecimal");
  for (std::size_t index = 0; index < kMaxServiceAddresses; ++index) {
    const auto found = entries.find(address_key(index));
    if (found == entries.end()) continue;
    record.addresses.push_back(TRY(Endpoint::parse(found->second)));
  }
  return record;
}

}  // namespace baton::net
