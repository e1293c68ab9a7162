#include "cluster/folder.h"

#include <format>
#include <glaze/glaze.hpp>

#include "base/file.h"

namespace baton::cluster {

// What the files hold. Named, as reflection needs types with linkage.
namespace folder_files {

constexpr int kFormat = 1;

struct AddressFile {
  int format = kFormat;
  std::map<std::string, std::vector<std::string>> addresses;  // by a node's id
};

struct TokenFile {
  int format = kFormat;
  std::map<std::string, std::int64_t> expires_s;  // by the fingerprint of a token's key
};

struct RunningFile {
  int format = kFormat;
  std::string address;
};

}  // namespace folder_files

namespace {

using folder_files::AddressFile;
using folder_files::kFormat;
using folder_files::RunningFile;
using folder_files::TokenFile;

constexpr const char* kMembers = "members";
constexpr const char* kCertificate = "certificate.der";
constexpr const char* kAddresses = "addresses.json";
constexpr const char* kTokens = "tokens.json";
constexpr const char* kLock = "lock";
constexpr const char* kRunning = "running.json";
constexpr unsigned kMode = 0600;

Result<std::optional<std::string>> read_if_there(const std::filesystem::path& path) {
  auto text = read_text_file(path);
  if (!text && text.error().code == ErrorCode::kNotFound) return std::nullopt;
  return std::optional(TRY(std::move(text)));
}

template <typename T>
Result<std::optional<T>> read_json_file(const std::filesystem::path& path) {
  const auto text = TRY(read_if_there(path));
  if (!text) return std::nullopt;
  T value{};
  if (glz::read_json(value, *text) || value.format != kFormat) {
    return fail(ErrorCode::kCorrupt, "the file is damaged, or of a newer baton; restore it from a copy, or delete it",
                path.string());
  }
  return std::optional(std::move(value));
}

template <typename T>
Result<void> write_json_file(const std::filesystem::path& path, const T& value) {
  return write_file(path, as_byte_span(glz::write_json(value).value_or("")), kMode);
}

// A parsing error of a file's content, as one of that file.
template <typename T>
Result<T> in_file(Result<T> result, const std::filesystem::path& path) {
  if (result) return result;
  return fail(ErrorCode::kCorrupt, result.error().message + "; restore it from a copy", path.string());
}

}  // namespace

Result<Folder> Folder::open(const std::filesystem::path& path) {
  return Folder(path, TRY(net::Identity::load_or_create(path)));
}

Result<FileLock> Folder::lock() const {
  return FileLock::try_take(path_ / kLock,
                            "a node runs with this folder already; another one needs a --data of its own");
}

Result<std::optional<trust::MemberList>> Folder::read_members() const {
  const auto text = TRY(read_if_there(path_ / kMembers));
  if (!text) return std::nullopt;
  return std::optional(TRY(in_file(trust::MemberList::decode(as_byte_span(*text)), path_ / kMembers)));
}

Result<void> Folder::write_members(const trust::MemberList& list) const {
  return write_file(path_ / kMembers, list.encode(), kMode);
}

Result<std::optional<Bytes>> Folder::read_certificate() const {
  const auto text = TRY(read_if_there(path_ / kCertificate));
  if (!text) return std::nullopt;
  const ByteSpan bytes = as_byte_span(*text);
  return Bytes(bytes.begin(), bytes.end());
}

Result<void> Folder::write_certificate(ByteSpan der) const { return write_file(path_ / kCertificate, der, kMode); }

Result<AddressBook> Folder::read_addresses() const {
  const auto file = TRY(read_json_file<AddressFile>(path_ / kAddresses));
  AddressBook book;
  if (!file) return book;
  for (const auto& [id, addresses] : file->addresses) {
    const auto fingerprint = TRY(in_file(net::Fingerprint::parse(id), path_ / kAddresses));
    for (const std::string& address : addresses) {
      book[fingerprint].push_back(TRY(in_file(net::Endpoint::parse(address), path_ / kAddresses)));
    }
  }
  return book;
}

Result<void> Folder::write_addresses(const AddressBook& book) const {
  AddressFile file;
  for (const auto& [id, addresses] : book) {
    for (const net::Endpoint& address : addresses) file.addresses[id.to_string()].push_back(address.to_string());
  }
  return write_json_file(path_ / kAddresses, file);
}

Result<TokenBook> Folder::read_tokens() const {
  const auto file = TRY(read_json_file<TokenFile>(path_ / kTokens));
  TokenBook book;
  if (!file) return book;
  for (const auto& [key, expires_s] : file->expires_s) {
    book[TRY(in_file(net::Fingerprint::parse(key), path_ / kTokens))] = expires_s;
  }
  return book;
}

Result<void> Folder::write_tokens(const TokenBook& book) const {
  TokenFile file;
  for (const auto& [key, expires_s] : book) file.expires_s[key.to_string()] = expires_s;
  return write_json_file(path_ / kTokens, file);
}

Result<std::optional<net::Endpoint>> Folder::read_running() const {
  const auto file = TRY(read_json_file<RunningFile>(path_ / kRunning));
  if (!file) return std::nullopt;
  return std::optional(TRY(in_file(net::Endpoint::parse(file->address), path_ / kRunning)));
}

Result<void> Folder::write_running(const net::Endpoint& endpoint) const {
  return write_json_file(path_ / kRunning, RunningFile{.address = endpoint.to_string()});
}

void Folder::remove_running() const {
  std::error_code ignored;
  std::filesystem::remove(path_ / kRunning, ignored);
}

Result<void> Folder::forget_cluster() const {
  // The list last: while it is there, this node still knows that it belonged to a cluster.
  for (const char* name : {kRunning, kTokens, kAddresses, kCertificate, kMembers}) {
    std::error_code error;
    std::filesystem::remove(path_ / name, error);
    if (error) {
      return fail(ErrorCode::kIo, std::format("cannot delete: {}", error.message()), (path_ / name).string());
    }
  }
  return {};
}

}  // namespace baton::cluster
