#include "node/kept_format.h"

#include <algorithm>
#include <format>

#include "base/atomic_file.h"
#include "base/attention_window.h"
#include "base/bytes.h"
#include "handoff/messages.h"
#include "model/kv_rows.h"

namespace baton::node {

namespace {

constexpr std::string_view kKeptMagic = "BATNKEPT";
constexpr std::uint32_t kKeptVersion = 1;
constexpr std::string_view kKeptEnding = ".kept";
constexpr std::size_t kKeptNameDigits = 32;
constexpr std::size_t kChecksumBytes = sizeof(std::uint64_t);
// Of the longest prompt, and all that can stand before it.
constexpr std::size_t kMostHeaderBytes = std::size_t{handoff::kMaxPromptTokens} * sizeof(Token) + (1U << 20U);
constexpr std::size_t kMostTextBytes = 4096;
std::unexpected<Error> unusable(std::string why) { return fail(ErrorCode::kCorrupt, std::move(why)); }

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
  out.write(header.token_count());
  out.write_bytes(std::as_bytes(std::span(header.text.tokens)));
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
  const std::uint32_t tokens = header.token_count();
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
  if (!ascend || !within || header.state_positions.empty() == shape.keeps_states()) {
    return unusable("its states stand at positions that cannot be");
  }
  return {};
}

bool is_hex(std::string_view text) { return text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

}  // namespace

bool KeptShape::keeps_states() const {
  return std::ranges::any_of(layers, [](const Layer& layer) { return layer.state_bytes != 0; });
}

std::uint32_t last_position_to_continue(const KeptHeader& header, std::uint32_t limit) {
  std::uint32_t position = std::min(limit, header.token_count());
  if (!header.state_positions.empty()) {
    const auto behind = std::ranges::upper_bound(header.state_positions, position);
    position = behind == header.state_positions.begin() ? 0 : *std::prev(behind);
  }
  return position >= header.first_resumable ? position : 0;
}

Result<void> for_each_piece(const KeptShape& shape, const KeptHeader& header,
                            const std::function<Result<void>(const KeptPiece&)>& visit) {
  const std::uint32_t end = header.token_count();
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
  return kKeptPreludeBytes + body.size() + kChecksumBytes + rows_bytes(shape, header) + kChecksumBytes;
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

Bytes encode_kept_header(const KeptShape& shape, const KeptHeader& header, std::uint64_t file_bytes) {
  ByteWriter body;
  put_body(body, shape, header);
  ByteWriter out;
  out.write_bytes(as_byte_span(kKeptMagic));
  out.write(kKeptVersion);
  out.write(static_cast<std::uint32_t>(kKeptPreludeBytes + body.size() + kChecksumBytes));
  out.write(file_bytes);
  out.write_bytes(body.bytes());
  out.write(checksum(out.bytes()));
  return std::move(out).take();
}

Result<std::uint32_t> kept_header_bytes(ByteSpan beginning, std::uint64_t file_size) {
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
  if (header_bytes < kKeptPreludeBytes + kChecksumBytes || header_bytes > most) {
    return unusable("its header has a size that cannot be");
  }
  return header_bytes;
}

Result<KeptHeader> parse_kept_header(const KeptShape& shape, ByteSpan bytes, std::uint64_t file_bytes) {
  if (TRY(kept_header_bytes(bytes, file_bytes)) != bytes.size()) return unusable("its header is cut short");
  const std::size_t body_end = bytes.size() - kChecksumBytes;
  ByteReader sum(bytes.subspan(body_end));
  if (TRY(sum.read<std::uint64_t>()) != checksum(bytes.first(body_end))) return unusable("its header is damaged");
  ByteReader in(bytes.first(body_end).subspan(kKeptPreludeBytes));
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

}  // namespace baton::node
