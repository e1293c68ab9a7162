// A kept text's rows: out of a workspace and into one.
#pragma once

#include <optional>
#include <span>

#include "engine/engine.h"
#include "node/kept_format.h"
#include "node/workspace.h"

namespace baton::node {

// What files must fit that this engine reads.
KeptShape kept_shape(const engine::Engine& engine, const Sha256& model);

// Of a text that is in the workspace; nothing where it could not be gone on from.
std::optional<KeptHeader> kept_header(const KeptShape& shape, KeptText text, Workspace& workspace);

// Copies a piece out of a workspace that holds the text; any thread, while nobody writes there.
Result<void> copy_from(engine::Engine& engine, Workspace& workspace, const KeptHeader& header, const KeptPiece& piece,
                       std::span<std::byte> bytes);
// Copies in as much of it as belongs to the text's first `tokens`. For whoever has the workspace to himself.
Result<void> copy_to(engine::Engine& engine, Workspace& workspace, std::uint32_t tokens, const KeptPiece& piece,
                     ByteSpan bytes);

}  // namespace baton::node
