// The keys of those who may ask, each with a name: made once, shown once, and kept only as a hash, in a file that
// docs/formats/api-keys.md describes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/result.h"

namespace baton::serve {

struct ApiKey {
  std::string name;
  // A key is random and long, so that trying all is hopeless, and a plain SHA-256 keeps it as well as a slow hash
  // would.
  Sha256 digest;
  std::int64_t created_s = 0;  // since 1970
};

// Where a data folder has its keys.
std::filesystem::path key_book_path(const std::filesystem::path& data_folder);

// Empty where there is no such file. kCorrupt names the line.
Result<std::vector<ApiKey>> read_key_book(const std::filesystem::path& path);
// Makes a key of 160 random bits and returns it. kInvalidArgument where the name is none or taken.
Result<std::string> create_api_key(const std::filesystem::path& path, const std::string& name);
// kNotFound where there is no key of that name.
Result<void> remove_api_key(const std::filesystem::path& path, const std::string& name);

// Keys as a person wrote them down, one a line; empty lines and those that begin with '#' count for nothing.
// kInvalidArgument where a key is shorter than 16 characters, kNotFound where there is no key at all.
Result<std::vector<std::string>> read_api_keys(const std::string& path);

// Whose key it is. On one thread.
class KeyRing {
 public:
  // `given` keys have no names but their numbers. Those in `book` (empty: none) count as they are when asked: a new one
  // from then on, a removed one no more.
  KeyRing(const std::vector<std::string>& given, std::filesystem::path book);

  std::optional<std::string> owner_of(std::string_view key);

 private:
  struct Version {
    std::filesystem::file_time_type changed;
    std::uintmax_t size = 0;
    bool operator==(const Version&) const = default;
  };
  void read_again();

  std::vector<ApiKey> given_;
  std::filesystem::path book_;
  std::optional<Version> read_version_;
  std::vector<ApiKey> keys_;
};

}  // namespace baton::serve
