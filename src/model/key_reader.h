// Typed, checked access to the keys of one architecture ("llama.block_count"). Private to the model room.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/gguf.h"

namespace baton::model {

// Far above any model there is; they keep products of two inside 64 bits and loops short on a hostile file.
inline constexpr std::uint32_t kMaxLayers = 1024;
inline constexpr std::uint32_t kMaxWidth = 1U << 20U;
inline constexpr std::uint32_t kMaxHeads = 4096;
inline constexpr std::uint32_t kMaxHeadWidth = 1024;
inline constexpr std::uint32_t kMaxVocabulary = 1U << 24U;
inline constexpr std::uint32_t kMaxContext = 1U << 30U;
inline constexpr std::uint32_t kMaxExperts = 4096;

// Borrows the file. Suffixes are what follows "<architecture>.".
class KeyReader {
 public:
  KeyReader(const GgufFile& file, std::string_view architecture) : file_(file), architecture_(architecture) {}

  const GgufFile& file() const { return file_; }
  std::string name(std::string_view suffix) const;
  bool has(std::string_view suffix) const { return file_.has(name(suffix)); }

  std::unexpected<Error> corrupt(std::string message) const;
  std::unexpected<Error> unsupported(std::string message) const;

  // Between 1 and `limit`.
  Result<std::uint32_t> size(std::string_view suffix, std::uint32_t limit) const;
  Result<std::uint32_t> size_or(std::string_view suffix, std::uint32_t fallback, std::uint32_t limit) const;
  // At most `limit`; 0 where the key is missing.
  Result<std::uint32_t> count(std::string_view suffix, std::uint32_t limit) const;
  // A size that some files state per layer and that must be the same in all of them.
  Result<std::uint32_t> uniform(std::string_view suffix, std::uint32_t layers, std::uint32_t limit) const;
  // The same where some layers have 0 of it, but not all.
  Result<std::vector<std::uint32_t>> uniform_or_none(std::string_view suffix, std::uint32_t layers,
                                                     std::uint32_t limit) const;
  // Finite and above 0.
  Result<float> positive(std::string_view suffix) const;
  Result<float> positive_or(std::string_view suffix, float fallback) const;
  // Finite, 0 or more.
  Result<float> factor_or(std::string_view suffix, float fallback) const;
  // An integer or a real number, as a double.
  Result<double> number(std::string_view suffix) const;

 private:
  Result<std::uint32_t> checked(const std::string& key, std::uint32_t value, std::uint32_t limit) const;
  Result<float> checked_positive(const std::string& key, float value) const;

  const GgufFile& file_;
  std::string_view architecture_;
};

}  // namespace baton::model
