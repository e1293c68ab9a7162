// What a node keeps on disk: its key, the member list, its certificate, where it met the others, tokens it gave out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file_lock.h"
#include "net/endpoint.h"
#include "net/identity.h"
#include "trust/member_list.h"

namespace baton::cluster {

using AddressBook = std::map<net::Fingerprint, std::vector<net::Endpoint>>;
// By the fingerprint of a token's key: until when it may be used, in the cluster's time. The tokens' secrets are not
// kept.
using TokenBook = std::map<net::Fingerprint, std::int64_t>;

// Every file is written whole or not at all, for its owner only, and checked when it is read. Errors name the file:
// kCorrupt where it is damaged, kIo, kNotFound.
class Folder {
 public:
  // The folder is made at first use, for its owner only (0700), with a new key.
  static Result<Folder> open(const std::filesystem::path& path);

  // One node at a time runs with a folder: kNoCapacity while another process holds its lock, which ends with the
  // process or the object.
  Result<FileLock> lock() const;

  const std::filesystem::path& path() const { return path_; }
  const net::Identity& identity() const { return identity_; }

  // Nothing where this node belongs to no cluster.
  Result<std::optional<trust::MemberList>> read_members() const;
  Result<void> write_members(const trust::MemberList& list) const;
  Result<std::optional<Bytes>> read_certificate() const;
  Result<void> write_certificate(ByteSpan der) const;
  Result<AddressBook> read_addresses() const;
  Result<void> write_addresses(const AddressBook& book) const;
  Result<TokenBook> read_tokens() const;
  Result<void> write_tokens(const TokenBook& book) const;
  // Where this node listens now; nothing while it does not run.
  Result<std::optional<net::Endpoint>> read_running() const;
  Result<void> write_running(const net::Endpoint& endpoint) const;
  void remove_running() const;
  // This node belongs to no cluster any more. The key stays.
  Result<void> forget_cluster() const;

 private:
  Folder(std::filesystem::path path, net::Identity identity) : path_(std::move(path)), identity_(std::move(identity)) {}
  std::filesystem::path path_;
  net::Identity identity_;
};

}  // namespace baton::cluster
