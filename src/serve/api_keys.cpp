#include "serve/api_keys.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <format>
#include <span>

#include "base/file.h"
#include "base/file_lock.h"
#include "base/log.h"
#include "base/random.h"

namespace baton::serve {

namespace {

constexpr std::size_t kLeastKeyLength = 16;
constexpr std::size_t kKeyLetters = 32;  // of five random bits each
constexpr std::size_t kLongestKeyName = 64;
constexpr std::string_view kFirstLine = "baton-api-keys 1";
constexpr unsigned kOwnerOnly = 0600;

Sha256 digest_of(std::string_view key) { return sha256(std::as_bytes(std::span(key))); }

// Takes as long for every other digest.
bool same(const Sha256& left, const Sha256& right) {
  std::byte difference{};
  for (std::size_t index = 0; index < left.bytes.size(); ++index) difference |= left.bytes[index] ^ right.bytes[index];
  return difference == std::byte{};
}

bool is_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  };
  return !name.empty() && name.size() <= kLongestKeyName && std::ranges::all_of(name, allowed);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    lines.push_back(std::move(line));
  }
  return lines;
}

// "DIGEST SECONDS NAME"
std::optional<ApiKey> parse_line(const std::string& line) {
  const std::size_t first = line.find(' ');
  const std::size_t second = first == std::string::npos ? first : line.find(' ', first + 1);
  if (second == std::string::npos) return std::nullopt;
  ApiKey key{.name = line.substr(second + 1), .digest = {}};
  const auto digest = Sha256::parse(line.substr(0, first));
  const char* const end = line.data() + second;
  const auto parsed = std::from_chars(line.data() + first + 1, end, key.created_s);
  if (!digest || parsed.ec != std::errc() || parsed.ptr != end || !is_name(key.name)) return std::nullopt;
  key.digest = *digest;
  return key;
}

Result<void> write_key_book(const std::filesystem::path& path, std::span<const ApiKey> keys) {
  std::string text(kFirstLine);
  text += '\n';
  for (const ApiKey& key : keys) text += std::format("{} {} {}\n", key.digest.hex(), key.created_s, key.name);
  return write_file(path, std::as_bytes(std::span(text)), kOwnerOnly);
}

// Held from reading the book to writing it, so that of two who change it neither is forgotten.
Result<FileLock> lock_key_book(const std::filesystem::path& path) { return FileLock::take(path.string() + ".lock"); }

}  // namespace

std::filesystem::path key_book_path(const std::filesystem::path& data_folder) { return data_folder / "api-keys"; }

Result<std::vector<ApiKey>> read_key_book(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::vector<ApiKey>();
  const std::vector<std::string> lines = lines_of(TRY(read_text_file(path)));
  if (lines.empty() || lines.front() != kFirstLine) {
    return fail(ErrorCode::kCorrupt,
                std::format("this is no book of API keys: it does not begin with '{}'", kFirstLine), path.string());
  }
  std::vector<ApiKey> keys;
  for (std::size_t index = 1; index < lines.size(); ++index) {
    auto key = parse_line(lines[index]);
    if (!key) {
      return fail(ErrorCode::kCorrupt, std::format("line {} is no API key's", index + 1), path.string());
    }
    keys.push_back(*std::move(key));
  }
  return keys;
}

Result<std::string> create_api_key(const std::filesystem::path& path, const std::string& name) {
  if (!is_name(name)) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("'{}' is no name for a key: it has 1 to {} letters, digits, '-', '_' and '.'", name,
                            kLongestKeyName));
  }
  const FileLock lock = TRY(lock_key_book(path));
  std::vector<ApiKey> keys = TRY(read_key_book(path));
  if (std::ranges::contains(keys, name, &ApiKey::name)) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("there is a key '{}' already: give another name, or remove that one with 'baton key rm {}'",
                            name, name));
  }
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz234567";
  std::array<std::byte, kKeyLetters> random{};
  fill_random(random);
  std::string key = "baton-";
  for (const std::byte byte : random) key += kLetters[std::to_integer<std::size_t>(byte) % kLetters.size()];
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  keys.push_back({.name = name,
                  .digest = digest_of(key),
                  .created_s = std::chrono::duration_cast<std::chrono::seconds>(time).count()});
  TRY(write_key_book(path, keys));
  return key;
}

Result<void> remove_api_key(const std::filesystem::path& path, const std::string& name) {
  const FileLock lock = TRY(lock_key_book(path));
  std::vector<ApiKey> keys = TRY(read_key_book(path));
  if (std::erase_if(keys, [&](const ApiKey& key) { return key.name == name; }) == 0) {
    return fail(ErrorCode::kNotFound, std::format("there is no key '{}'; 'baton key ls' lists them", name));
  }
  return write_key_book(path, keys);
}

Result<std::vector<std::string>> read_api_keys(const std::string& path) {
  std::vector<std::string> keys;
  const std::vector<std::string> lines = lines_of(TRY(read_text_file(path)));
  for (std::size_t index = 0; index < lines.size(); ++index) {
    const std::string& line = lines[index];
    if (line.empty() || line.starts_with('#')) continue;
    if (line.size() < kLeastKeyLength) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("the key in line {} has fewer than {} characters and could be guessed", index + 1,
                              kLeastKeyLength),
                  path);
    }
    keys.push_back(line);
  }
  if (keys.empty()) return fail(ErrorCode::kNotFound, "there is no key in this file", path);
  return keys;
}

KeyRing::KeyRing(const std::vector<std::string>& given, std::filesystem::path book) : book_(std::move(book)) {
  for (const std::string& key : given) {
    given_.push_back({.name = std::format("#{}", given_.size()), .digest = digest_of(key)});
  }
}

void KeyRing::read_again() {
  if (book_.empty()) return;
  std::error_code no_file;
  Version now{.changed = std::filesystem::last_write_time(book_, no_file)};
  if (!no_file) now.size = std::filesystem::file_size(book_, no_file);
  if (no_file) {
    keys_.clear();
    read_version_.reset();
    return;
  }
  if (read_version_ == now) return;
  read_version_ = now;
  auto keys = read_key_book(book_);
  if (keys) {
    keys_ = *std::move(keys);
  } else {
    log::warning("the API's keys stay as they were: {}", keys.error().to_string());
  }
}

std::optional<std::string> KeyRing::owner_of(std::string_view key) {
  read_again();
  const Sha256 digest = digest_of(key);
  for (const std::vector<ApiKey>* keys : {&given_, &keys_}) {
    for (const ApiKey& known : *keys) {
      if (same(known.digest, digest)) return known.name;
    }
  }
  return std::nullopt;
}

}  // namespace baton::serve
