#include "node/kept_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <format>
#include <limits>
#include <string_view>

#include "base/atomic_file.h"
#include "base/attention_window.h"
#include "base/descriptor.h"
#include "base/system_error.h"
#include "base/version.h"
#include "handoff/messages.h"
#include "model/kv_rows.h"
#include "node/device_rates.h"

namespace baton::node {

namespace {

constexpr std::string_view kKeptMagic = "BATNKEPT";
constexpr std::uint32_t kKeptVersion = 1;
constexpr std::string_view kKeptEnding = ".kept";
constexpr std::size_t kKeptNameDigits = 32;
constexpr unsigned kKeptMode = 0600;
// Whoever gives a writing up waits for no more than this to reach the disk, and its dirty pages crowd out nothing.
constexpr std::size_t kSyncedBytes = 256U << 20U;
constexpr std::size_t kChecksumBytes = sizeof(std::uint64_t);
// Magic, version, bytes of the header, bytes of the file.
constexpr std::size_t kPreludeBytes = 8 + 4 + 4 + 8;
// Of the longest prompt, and all that can stand before it.
constexpr std::size_t kMostHeaderBytes = std::size_t{handoff::kMaxPromptTokens} * sizeof(Token) + (1U << 20U);
constexpr std::size_t kMostTextBytes = 4096;
// A window's rows further back serve nobody: texts part at their end or long before.
constexpr std::uint32_t kWayBack = model::kRollbackTokens;

std::unexpected<Error> unusable(std::string why) { return fail(ErrorCode::kCorrupt, std::move(why)); }

bool keeps_states(const KeptShape& shape) {
  return std::ranges::any_of(shape.layers, [](const KeptShape::Layer& layer) { return layer.state_bytes != 0; });
}

std::uint32_t token_count(const KeptHeader& header) { return static_cast<std::uint32_t>(header.text.tokens.size()); }

void put_body(ByteWriter& out, const KeptShape& shape, const KeptHeader& header) {
  out.write_bytes(shape.model.bytes);
  out.write_string<std::uint16_t>(shape.cache_type);
  out.write_string<std::uint16_t>(shape.computed_by);
  out.write(static_cast<std::uint32_t>(shape.layers.size()));
  for (const KeptShape::Layer& layer : shape.layers) {
    for (const std::uint32_t value : {layer.k_row_bytes, layer.v_row_bytes, layer.state_bytes, layer.window}) {
      out.write(value);
    }
  }
  out.write_string<std::uint16_t>(header.text.origin.loss);
  out.write_string<std::uint16_t>(header.text.origin.shape);
  out.write(header.text.exact_tokens);
  out.write(header.first_resumable);
  out.write(static_cast<std::uint32_t>(header.state_positions.size()));
  for (const std::uint32_t position : header.state_positions) out.write(position);
  out.write(token_count(header));
  out.write_bytes(std::as_bytes(std::span(header.text.tokens)));
}

Bytes encode_header(const KeptShape& shape, const KeptHeader& header, std::uint64_t file_bytes) {
  ByteWriter body;
  put_body(body, shape, header);
  ByteWriter out;
  out.write_bytes(as_byte_span(kKeptMagic));
  out.write(kKeptVersion);
  out.write(static_cast<std::uint32_t>(kPreludeBytes + body.size() + kChecksumBytes));
  out.write(file_bytes);
  out.write_bytes(body.bytes());
  out.write(checksum(out.bytes()));
  return std::move(out).take();
}

Result<std::string> get_text(ByteReader& in, std::string_view what) {
  const std::string_view text = TRY(in.read_string<std::uint16_t>());
  if (text.size() > kMostTextBytes) return unusable(std::format("{} is too long", what));
  return std::string(text);
}

std::uint64_t rows_bytes(const KeptShape& shape, const KeptHeader& header) {
  std::uint64_t bytes = 0;
  const auto added = for_each_piece(shape, header, [&](const KeptPiece& piece) -> Result<void> {
    bytes += piece.bytes();
    return {};
  });
  static_cast<void>(added);
  return bytes;
}

Result<void> check_made_for(const KeptShape& shape, ByteReader& in) {
  Sha256 model;
  std::ranges::copy(TRY(in.read_bytes(model.bytes.size())), model.bytes.begin());
  if (model != shape.model) {
    return unusable(
        std::format("it is of the model {}, not {}", model.hex().substr(0, 12), shape.model.hex().substr(0, 12)));
  }
  const std::string cache_type = TRY(get_text(in, "the cache's type"));
  if (cache_type != shape.cache_type) {
    return unusable(std::format("its rows are of a cache of {}, and this one is of {}", cache_type, shape.cache_type));
  }
  return {};
}

Result<void> check_layers(const KeptShape& shape, ByteReader& in) {
  const auto layers = TRY(in.read<std::uint32_t>());
  if (layers != shape.layers.size()) {
    return unusable(std::format("it has {} layers, and the model {}", layers, shape.layers.size()));
  }
  for (std::uint32_t index = 0; index < layers; ++index) {
    KeptShape::Layer layer;
    for (std::uint32_t* value : {&layer.k_row_bytes, &layer.v_row_bytes, &layer.state_bytes, &layer.window}) {
      *value = TRY(in.read<std::uint32_t>());
    }
    if (layer != shape.layers[index]) {
      return unusable(std::format("layer {} has rows of other sizes, or another window, than here", index));
    }
  }
  return {};
}

// What can be wrong with numbers whose checksum is right.
Result<void> check_numbers(const KeptShape& shape, const KeptHeader& header) {
  const std::uint32_t tokens = token_count(header);
  for (const Token token : header.text.tokens) {
    if (token < 0 || static_cast<std::uint32_t>(token) >= shape.vocabulary_size) {
      return unusable(std::format("token {} is not in the vocabulary of {}", token, shape.vocabulary_size));
    }
  }
  if (tokens < kLeastPrefixTokens || header.text.exact_tokens > tokens || header.first_resumable > tokens) {
    return unusable("its numbers of tokens contradict each other");
  }
  const bool ascend = std::ranges::is_sorted(header.state_positions, std::less_equal());
  const bool within =
      header.state_positions.empty() || (header.state_positions.front() > 0 && header.state_positions.back() <= tokens);
  if (!ascend || !within || header.state_positions.empty() == keeps_states(shape)) {
    return unusable("its states stand at positions that cannot be");
  }
  return {};
}

// Not mapped: whoever cut a mapped file short would end this process.
class KeptFileReader {
 public:
  static Result<KeptFileReader> open(const std::filesystem::path& path) {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.is_open()) return system_error("open", path);
    struct stat status{};
    if (::fstat(file.number(), &status) != 0) return system_error("inspect", path);
    if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kCorrupt, "it is no file", path.string());
    return KeptFileReader(path, std::move(file), static_cast<std::uint64_t>(status.st_size));
  }

  std::uint64_t size() const { return size_; }

  Result<void> read(std::span<std::byte> into) {
    while (!into.empty()) {
      const ssize_t count = ::read(file_.number(), into.data(), into.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return system_error("read", path_);
      if (count == 0) return fail(ErrorCode::kCorrupt, "it ends too early", path_.string());
      into = into.subspan(static_cast<std::size_t>(count));
    }
    return {};
  }

 private:
  KeptFileReader(std::filesystem::path path, Descriptor file, std::uint64_t size)
      : path_(std::move(path)), file_(std::move(file)), size_(size) {}
  std::filesystem::path path_;  // for errors
  Descriptor file_;
  std::uint64_t size_;
};

// Bytes of the header, as its beginning says.
Result<std::uint32_t> header_size(ByteSpan beginning, std::uint64_t file_size) {
  ByteReader prelude(beginning);
  const ByteSpan magic = TRY(prelude.read_bytes(kKeptMagic.size()));
  if (!std::ranges::equal(magic, as_byte_span(kKeptMagic))) return unusable("it is no kept text");
  if (const auto version = TRY(prelude.read<std::uint32_t>()); version != kKeptVersion) {
    return unusable(std::format("it is of version {} of the format, and this program reads {}", version, kKeptVersion));
  }
  const auto header_bytes = TRY(prelude.read<std::uint32_t>());
  const auto file_bytes = TRY(prelude.read<std::uint64_t>());
  if (file_bytes != file_size) {
    return unusable(std::format("it should have {} bytes and has {}", file_bytes, file_size));
  }
  const auto most = std::min<std::uint64_t>(kMostHeaderBytes, file_bytes);
  if (header_bytes < kPreludeBytes + kChecksumBytes || header_bytes > most) {
    return unusable("its header has a size that cannot be");
  }
  return header_bytes;
}

// Leaves the reader at the first row.
Result<KeptHeader> read_header(KeptFileReader& file, const KeptShape& shape) {
  Bytes bytes(kPreludeBytes);
  TRY(file.read(bytes));
  bytes.resize(TRY(header_size(bytes, file.size())));
  TRY(file.read(std::span(bytes).subspan(kPreludeBytes)));
  return parse_kept_header(shape, bytes, file.size());
}

Result<KeptHeader> in_file(const std::filesystem::path& path, Result<KeptHeader> header) {
  if (!header) header.error().context = path.string();
  return header;
}

bool is_hex(std::string_view text) { return text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

}  // namespace

KeptShape KeptShape::of(const engine::Engine& engine, const Sha256& model) {
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
  if (keeps_states(shape)) {
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

std::uint32_t last_position_to_continue(const KeptHeader& header, std::uint32_t limit) {
  std::uint32_t position = std::min(limit, token_count(header));
  if (!header.state_positions.empty()) {
    const auto behind = std::ranges::upper_bound(header.state_positions, position);
    position = behind == header.state_positions.begin() ? 0 : *std::prev(behind);
  }
  return position >= header.first_resumable ? position : 0;
}

Result<void> for_each_piece(const KeptShape& shape, const KeptHeader& header,
                            const std::function<Result<void>(const KeptPiece&)>& visit) {
  const std::uint32_t end = token_count(header);
  for (std::uint32_t layer = 0; layer < shape.layers.size(); ++layer) {
    const KeptShape::Layer& of = shape.layers[layer];
    if (of.k_row_bytes == 0) continue;
    std::uint32_t first = of.window == 0 ? 0 : first_visible(header.first_resumable, of.window);
    while (first < end) {
      const std::uint32_t rows = std::min(model::block_below(first) + model::kKvBlock, end) - first;
      TRY(visit({.kind = KeptPiece::Kind::kRows,
                 .layer = layer,
                 .position = first,
                 .rows = rows,
                 .k_bytes = std::size_t{rows} * of.k_row_bytes,
                 .v_bytes = std::size_t{rows} * of.v_row_bytes}));
      first += rows;
    }
  }
  for (const std::uint32_t position : header.state_positions) {
    for (std::uint32_t layer = 0; layer < shape.layers.size(); ++layer) {
      if (shape.layers[layer].state_bytes == 0) continue;
      TRY(visit({.kind = KeptPiece::Kind::kState,
                 .layer = layer,
                 .position = position,
                 .rows = 0,
                 .k_bytes = shape.layers[layer].state_bytes,
                 .v_bytes = 0}));
    }
  }
  return {};
}

std::uint64_t kept_file_bytes(const KeptShape& shape, const KeptHeader& header) {
  ByteWriter body;
  put_body(body, shape, header);
  return kPreludeBytes + body.size() + kChecksumBytes + rows_bytes(shape, header) + kChecksumBytes;
}

std::string kept_file_name(const KeptText& text) {
  ByteWriter out;
  out.write_string<std::uint32_t>(text.origin.loss);
  out.write_string<std::uint32_t>(text.origin.shape);
  out.write_bytes(std::as_bytes(std::span(text.tokens)));
  return sha256(out.bytes()).hex().substr(0, kKeptNameDigits) + std::string(kKeptEnding);
}

bool is_kept_file_name(std::string_view name) {
  return name.size() == kKeptNameDigits + kKeptEnding.size() && name.ends_with(kKeptEnding) &&
         is_hex(name.substr(0, kKeptNameDigits));
}

bool is_part_of_kept_file(std::string_view name) {
  const std::string_view whole = name.substr(0, kKeptNameDigits + kKeptEnding.size());
  return is_kept_file_name(whole) && AtomicFile::is_temporary_of(whole, name);
}

Result<void> copy_from(engine::Engine& engine, Workspace& workspace, const KeptHeader& header, const KeptPiece& piece,
                       std::span<std::byte> bytes) {
  if (piece.kind == KeptPiece::Kind::kRows) {
    return engine.read_kv(workspace.sequence(), piece.layer, piece.position, piece.rows, bytes.first(piece.k_bytes),
                          bytes.subspan(piece.k_bytes));
  }
  const Bytes* kept = workspace.states().find(piece.layer, piece.position);
  if (kept == nullptr && piece.position == token_count(header)) {
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

Result<void> write_kept_file(const std::filesystem::path& path, const KeptShape& shape, const KeptHeader& header,
                             const FillPiece& fill) {
  AtomicFile file = TRY(AtomicFile::create(path, kKeptMode));
  const std::uint64_t bytes = kept_file_bytes(shape, header);
  // So that a full disk shows before anything was copied.
  TRY(file.reserve(bytes));
  TRY(file.write(encode_header(shape, header, bytes)));
  Checksum sum;
  Bytes buffer;
  std::size_t unsynced_bytes = 0;
  TRY(for_each_piece(shape, header, [&](const KeptPiece& piece) -> Result<void> {
    buffer.resize(piece.bytes());
    TRY(fill(piece, buffer));
    sum.update(buffer);
    TRY(file.write(buffer));
    unsynced_bytes += buffer.size();
    if (unsynced_bytes < kSyncedBytes) return {};
    unsynced_bytes = 0;
    return file.sync();
  }));
  const std::uint64_t value = sum.value();
  TRY(file.write(std::as_bytes(std::span(&value, 1))));
  return file.commit();
}

Result<KeptHeader> parse_kept_header(const KeptShape& shape, ByteSpan bytes, std::uint64_t file_bytes) {
  if (TRY(header_size(bytes, file_bytes)) != bytes.size()) return unusable("its header is cut short");
  const std::size_t body_end = bytes.size() - kChecksumBytes;
  ByteReader sum(bytes.subspan(body_end));
  if (TRY(sum.read<std::uint64_t>()) != checksum(bytes.first(body_end))) return unusable("its header is damaged");
  ByteReader in(bytes.first(body_end).subspan(kPreludeBytes));
  KeptHeader header;
  TRY(check_made_for(shape, in));
  const std::string computed_by = TRY(get_text(in, "what computed it"));
  TRY(check_layers(shape, in));
  KeptText& text = header.text;
  text.layers = {0, static_cast<std::uint32_t>(shape.layers.size())};
  text.origin.loss = TRY(get_text(in, "its loss"));
  text.origin.shape = TRY(get_text(in, "its shape"));
  text.exact_tokens = TRY(in.read<std::uint32_t>());
  header.first_resumable = TRY(in.read<std::uint32_t>());
  const auto positions = TRY(in.read<std::uint32_t>());
  if (positions > in.remaining() / sizeof(std::uint32_t)) return unusable("its list of states is cut short");
  for (std::uint32_t index = 0; index < positions; ++index) {
    header.state_positions.push_back(TRY(in.read<std::uint32_t>()));
  }
  const auto tokens = TRY(in.read<std::uint32_t>());
  if (tokens > handoff::kMaxPromptTokens || in.remaining() != std::size_t{tokens} * sizeof(Token)) {
    return unusable("its number of tokens does not fit its header");
  }
  const ByteSpan ids = TRY(in.read_bytes(in.remaining()));
  text.tokens.resize(tokens);
  std::ranges::copy(ids, std::as_writable_bytes(std::span(text.tokens)).begin());
  TRY(check_numbers(shape, header));
  if (bytes.size() + rows_bytes(shape, header) + kChecksumBytes != file_bytes)
    return unusable("its rows do not fill it");
  if (computed_by != shape.computed_by) text.exact_tokens = 0;
  return header;
}

Result<KeptHeader> read_kept_header(const std::filesystem::path& path, const KeptShape& shape) {
  KeptFileReader file = TRY(KeptFileReader::open(path));
  return in_file(path, read_header(file, shape));
}

Result<void> read_kept_rows(const std::filesystem::path& path, const KeptShape& shape, const KeptHeader& header,
                            const TakePiece& take) {
  KeptFileReader file = TRY(KeptFileReader::open(path));
  if (TRY(in_file(path, read_header(file, shape))) != header) {
    return fail(ErrorCode::kNotFound, "another text took its place", path.string());
  }
  Checksum sum;
  Bytes buffer;
  TRY(for_each_piece(shape, header, [&](const KeptPiece& piece) -> Result<void> {
    buffer.resize(piece.bytes());
    TRY(file.read(buffer));
    sum.update(buffer);
    return take(piece, buffer);
  }));
  std::uint64_t value = 0;
  TRY(file.read(std::as_writable_bytes(std::span(&value, 1))));
  if (value != sum.value()) return fail(ErrorCode::kCorrupt, "its rows are damaged", path.string());
  return {};
}

}  // namespace baton::node
