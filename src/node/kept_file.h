// A kept text's file: written whole, and read with every check.
#pragma once

#include <filesystem>
#include <functional>
#include <span>

#include "node/kept_format.h"

namespace baton::node {

// Writes the file whole or not at all, for its owner alone, with what `fill` makes of each piece.
using FillPiece = std::function<Result<void>(const KeptPiece&, std::span<std::byte>)>;
Result<void> write_kept_file(const std::filesystem::path& path, const KeptShape& shape, const KeptHeader& header,
                             const FillPiece& fill);

// The header, checked; the rows are as large as it says. `computed_by` of another: nothing in it counts as exact.
// Errors: kNotFound and kIo; else the file is none that can be used, and the message says why.
Result<KeptHeader> read_kept_header(const std::filesystem::path& path, const KeptShape& shape);

// Hands over every piece of the file that has this header. Only once it has returned well are they known to be what was
// written.
using TakePiece = std::function<Result<void>(const KeptPiece&, ByteSpan)>;
Result<void> read_kept_rows(const std::filesystem::path& path, const KeptShape& shape, const KeptHeader& header,
                            const TakePiece& take);

}  // namespace baton::node
