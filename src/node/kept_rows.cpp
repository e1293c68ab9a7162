#include "node/kept_rows.h"

#include <algorithm>
#include <format>

#include "base/version.h"
#include "model/kv_rows.h"
#include "node/device_rates.h"

namespace baton::node {

namespace {

// A window's rows further back serve nobody: texts part at their end or long before.
constexpr std::uint32_t kWayBack = model::kRollbackTokens;

}  // namespace

KeptShape kept_shape(const engine::Engine& engine, const Sha256& model) {
  KeptShape shape{.model = model,
                  .computed_by = std::format("baton {}, {}", version(), device_and_use(engine)),
                  .cache_type = std::string(engine::cache_type_name(engine.options().cache_type)),
                  .vocabulary_size = engine.shape().vocabulary_size,
                  .layers = {}};
  for (std::uint32_t layer = 0; layer < engine.shape().layer_count; ++layer) {
    const engine::KvLayout& layout = engine.kv_layout(layer);
    const model::LayerShape& of = engine.shape().layers[layer];
    shape.layers.push_back({.k_row_bytes = layout.k_row_bytes,
                            .v_row_bytes = layout.v_row_bytes,
                            .state_bytes = static_cast<std::uint32_t>(of.memory.state_width * sizeof(float)),
                            .window = engine.keeps_window(layer) ? of.attention_window : 0});
  }
  return shape;
}

std::optional<KeptHeader> kept_header(const KeptShape& shape, KeptText text, Workspace& workspace) {
  const auto end = static_cast<std::uint32_t>(text.tokens.size());
  if (text.layers != LayerRange{0, static_cast<std::uint32_t>(shape.layers.size())}) return std::nullopt;
  KeptHeader header;
  if (shape.keeps_states()) {
    header.state_positions = workspace.states().borders(end);
    if (workspace.states().position() == end &&
        (header.state_positions.empty() || header.state_positions.back() != end)) {
      header.state_positions.push_back(end);
    }
    if (header.state_positions.empty()) return std::nullopt;
  }
  const bool keeps_windows =
      std::ranges::any_of(shape.layers, [](const KeptShape::Layer& layer) { return layer.window != 0; });
  if (keeps_windows) {
    if (!workspace.can_continue_at(end)) return std::nullopt;
    header.first_resumable = end;
    const std::uint32_t least = end - std::min(end, kWayBack);
    while (header.first_resumable > least && workspace.can_continue_at(header.first_resumable - 1)) {
      --header.first_resumable;
    }
  }
  header.text = std::move(text);
  if (last_position_to_continue(header, end) == 0) return std::nullopt;
  return header;
}

Result<void> copy_from(engine::Engine& engine, Workspace& workspace, const KeptHeader& header, const KeptPiece& piece,
                       std::span<std::byte> bytes) {
  if (piece.kind == KeptPiece::Kind::kRows) {
    return engine.read_kv(workspace.sequence(), piece.layer, piece.position, piece.rows, bytes.first(piece.k_bytes),
                          bytes.subspan(piece.k_bytes));
  }
  const Bytes* kept = workspace.states().find(piece.layer, piece.position);
  if (kept == nullptr && piece.position == header.token_count()) {
    return engine.read_state(workspace.sequence(), piece.layer, bytes);
  }
  if (kept == nullptr || kept->size() != bytes.size()) {
    return fail(ErrorCode::kInternal, std::format("layer {} has no state of {} tokens", piece.layer, piece.position));
  }
  std::ranges::copy(*kept, bytes.begin());
  return {};
}

Result<void> copy_to(engine::Engine& engine, Workspace& workspace, std::uint32_t tokens, const KeptPiece& piece,
                     ByteSpan bytes) {
  if (piece.kind == KeptPiece::Kind::kState) {
    if (piece.position == tokens) return engine.write_state(workspace.sequence(), piece.layer, tokens, bytes);
    if (piece.position < tokens) {
      workspace.states().keep(piece.layer, piece.position, Bytes(bytes.begin(), bytes.end()));
    }
    return {};
  }
  if (piece.position >= tokens) return {};
  const std::uint32_t rows = std::min(piece.rows, tokens - piece.position);
  return engine.write_kv(workspace.sequence(), piece.layer, piece.position, rows,
                         bytes.first(piece.k_bytes / piece.rows * rows),
                         bytes.subspan(piece.k_bytes, piece.v_bytes / piece.rows * rows));
}

}  // namespace baton::node
