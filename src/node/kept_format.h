// The format of a kept text's file, docs/formats/kept-text.md. Pure: bytes and numbers, which are checked before they
// are used.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/result.h"
#include "node/kept_text.h"

namespace baton::node {

// What a file's rows must fit: a model, and how this node keeps it in memory.
struct KeptShape {
  struct Layer {
    std::uint32_t k_row_bytes = 0;
    std::uint32_t v_row_bytes = 0;
    std::uint32_t state_bytes = 0;
    std::uint32_t window = 0;  // 0: every row is kept
    bool operator==(const Layer&) const = default;
  };

  Sha256 model;
  std::string computed_by;  // the program, the device and its use: with another, rows have other last bits
  std::string cache_type;
  std::uint32_t vocabulary_size = 0;
  std::vector<Layer> layers;

  bool keeps_states() const;
};

// All that a file says of its rows.
struct KeptHeader {
  KeptText text;  // in all layers
  // Windows lack what is seen from positions before this one.
  std::uint32_t first_resumable = 0;
  // Where states were kept, ascending; none where no layer keeps one.
  std::vector<std::uint32_t> state_positions;

  std::uint32_t token_count() const { return static_cast<std::uint32_t>(text.tokens.size()); }
  bool operator==(const KeptHeader&) const = default;
};

// The last position not above `limit` from which a text can be gone on with; 0 where there is none.
std::uint32_t last_position_to_continue(const KeptHeader& header, std::uint32_t limit);

std::uint64_t kept_file_bytes(const KeptShape& shape, const KeptHeader& header);

// A file's name without its folder: the same for the same text, made in the same way.
std::string kept_file_name(const KeptText& text);
bool is_kept_file_name(std::string_view name);
// What a writer leaves that was killed.
bool is_part_of_kept_file(std::string_view name);

// Of the rows behind the header, in the order of the file.
struct KeptPiece {
  enum class Kind { kRows, kState };
  Kind kind = Kind::kRows;
  std::uint32_t layer = 0;
  std::uint32_t position = 0;  // of the first row; or the tokens that the state stands for
  std::uint32_t rows = 0;
  std::size_t k_bytes = 0;  // or the state's
  std::size_t v_bytes = 0;
  std::size_t bytes() const { return k_bytes + v_bytes; }
};

// In that order, until `visit` fails.
Result<void> for_each_piece(const KeptShape& shape, const KeptHeader& header,
                            const std::function<Result<void>(const KeptPiece&)>& visit);

// Magic, version, bytes of the header, bytes of the file.
inline constexpr std::size_t kKeptPreludeBytes = 8 + 4 + 4 + 8;

Bytes encode_kept_header(const KeptShape& shape, const KeptHeader& header, std::uint64_t file_bytes);

// Bytes of the header, as the file's first kKeptPreludeBytes say. kCorrupt, with the reason.
Result<std::uint32_t> kept_header_bytes(ByteSpan beginning, std::uint64_t file_size);

// All of the header. kCorrupt, with the reason. `computed_by` of another: nothing in it counts as exact.
Result<KeptHeader> parse_kept_header(const KeptShape& shape, ByteSpan header, std::uint64_t file_bytes);

}  // namespace baton::node
