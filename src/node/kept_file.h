// A kept text in a file: the format, docs/formats/kept-text.md. Bytes and numbers, and rows of a workspace; what is
// read is checked before it is used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/result.h"
#include "node/kept_text.h"
#include "node/workspace.h"

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

  static KeptShape of(const engine::Engine& engine, const Sha256& model);
};

// All that a file says of its rows.
struct KeptHeader {
  KeptText text;  // in all layers
  // Windows lack what is seen from positions before this one.
  std::uint32_t first_resumable = 0;
  // Where states were kept, ascending; none where no layer keeps one.
  std::vector<std::uint32_t> state_positions;

  bool operator==(const KeptHeader&) const = default;
};

// Of a text that is in the workspace; nothing where it could not be gone on from.
std::optional<KeptHeader> kept_header(const KeptShape& shape, KeptText text, Workspace& workspace);

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

// Copies a piece out of a workspace that holds the text; any thread, while nobody writes there.
Result<void> copy_from(engine::Engine& engine, Workspace& workspace, const KeptHeader& header, const KeptPiece& piece,
                       std::span<std::byte> bytes);
// Copies in as much of it as belongs to the text's first `tokens`. For whoever has the workspace to himself.
Result<void> copy_to(engine::Engine& engine, Workspace& workspace, std::uint32_t tokens, const KeptPiece& piece,
                     ByteSpan bytes);

// Writes the file whole or not at all, for its owner alone, with what `fill` makes of each piece.
using FillPiece = std::function<Result<void>(const KeptPiece&, std::span<std::byte>)>;
Result<void> write_kept_file(const std::filesystem::path& path, const KeptShape& shape, const KeptHeader& header,
                             const FillPiece& fill);

// A file's first bytes: all of its header, or enough to say how large that is. kCorrupt, with the reason.
Result<KeptHeader> parse_kept_header(const KeptShape& shape, ByteSpan header, std::uint64_t file_bytes);

// The header, checked; the rows are as large as it says. `computed_by` of another: nothing in it counts as exact.
// Errors: kNotFound and kIo; else the file is none that can be used, and the message says why.
Result<KeptHeader> read_kept_header(const std::filesystem::path& path, const KeptShape& shape);

// Hands over every piece of the file that has this header. Only once it has returned well are they known to be what was
// written.
using TakePiece = std::function<Result<void>(const KeptPiece&, ByteSpan)>;
Result<void> read_kept_rows(const std::filesystem::path& path, const KeptShape& shape, const KeptHeader& header,
                            const TakePiece& take);

}  // namespace baton::node
