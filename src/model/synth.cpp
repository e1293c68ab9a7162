// How the outputs are peaked. With an output matrix drawn at random, the best of many logits lies barely above the
// second, and the last bits of a sum would often choose the token. Here the output row of a token v is put together
// from two halves of embeddings: the first half of its predecessor's in one random cycle over the vocabulary, the
// second half of its predecessor's in another. The embedding of the last token stays in the residual stream, so its two
// successors stand far above the rest, and what the layers add, by attention to all tokens before, decides between the
// two. A tie needs two numbers to meet instead of the best two of thousands.
#include "model/synth.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <format>
#include <functional>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "model/block_pool.h"
#include "model/gguf_writer.h"
#include "model/synth_vocabulary.h"

namespace baton::model {

namespace {

constexpr std::uint32_t kMaxWidth = 1 << 18;
constexpr std::uint32_t kMaxLayers = 1024;
constexpr std::uint32_t kMaxExperts = 1024;
constexpr std::uint64_t kChunkBytes = 32 << 20;

// Standard deviation of attention scores: high enough that a query looks at few of many positions, low enough that it
// is no hard choice, which small differences could turn round.
constexpr double kScoreDeviation = 2.0;
// Root mean squares that follow from it: of attention's weighted sum of values of size 1, and of silu(x)·y for Gaussian
// x and y of size 1.
constexpr double kAttentionRms = 0.4;
constexpr double kGatedRms = 0.6;
constexpr double kAttentionShare = 0.7;  // of the energy that the layers add, the rest is the feed-forward's
constexpr double kPeakLogit = 25.0;      // of a successor

// llama.cpp's number for "mostly of this type", for those types that have one.
std::optional<std::uint32_t> file_type(TensorType type) {
  using enum TensorType;
  switch (type) {
    case kF32: return 0;
    case kF16: return 1;
    case kQ4_0: return 2;
    case kQ4_1: return 3;
    case kQ8_0: return 7;
    case kQ5_0: return 8;
    case kQ5_1: return 9;
    case kQ2_K: return 10;
    case kQ3_K: return 11;
    case kQ4_K: return 14;
    case kQ5_K: return 16;
    case kQ6_K: return 18;
    case kIQ2_XXS: return 19;
    case kIQ2_XS: return 20;
    case kIQ3_XXS: return 23;
    case kIQ1_S: return 24;
    case kIQ4_NL: return 25;
    case kIQ3_S: return 26;
    case kIQ2_S: return 28;
    case kIQ4_XS: return 30;
    case kIQ1_M: return 31;
    case kBF16: return 32;
    case kTQ1_0: return 36;
    case kTQ2_0: return 37;
    case kMXFP4: return 38;
    default: return std::nullopt;
  }
}

Result<void> check_range(std::string_view name, std::uint32_t value, std::uint32_t least, std::uint32_t most) {
  if (value >= least && value <= most) return {};
  return fail(ErrorCode::kInvalidArgument,
              std::format("{} is {}, but must be between {} and {}", name, value, least, most));
}

Result<void> check(const SynthOptions& options) {
  TRY(check_range("--embd", options.embd, 1, kMaxWidth));
  TRY(check_range("--layers", options.layers, 1, kMaxLayers));
  TRY(check_range("--heads", options.heads, 1, options.embd));
  TRY(check_range("--kv-heads", options.kv_heads, 1, options.heads));
  TRY(check_range("--ff", options.ff, 1, kMaxWidth));
  TRY(check_range("--experts", options.experts, 0, kMaxExperts));
  if (options.experts > 0 && options.experts_per_token == 0) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("of --experts {} each token uses some: give their number, too, such as --experts-used {}",
                            options.experts, std::min(2U, options.experts)));
  }
  if (options.experts > 0) TRY(check_range("--experts-used", options.experts_per_token, 1, options.experts));
  TRY(check_range("--vocab", options.vocab, kMinSynthVocab, kMaxSynthVocab));
  TRY(check_range("pieces", options.pieces, 1, 1 << 20));
  TRY(check_range("context", options.context, 1, 1U << 30));
  if (options.embd % options.heads != 0 || options.embd / options.heads % 2 != 0) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("--embd {} does not divide into --heads {} of an even width: give an --embd that is a "
                            "multiple of {}, or other --heads (and --kv-heads)",
                            options.embd, options.heads, 2 * std::uint64_t{options.heads}));
  }
  if (options.heads % options.kv_heads != 0) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("--heads {} cannot share --kv-heads {} evenly: give a --kv-heads that divides the heads",
                            options.heads, options.kv_heads));
  }
  if (!(options.rope_base > 0.0F) || !std::isfinite(options.rope_base)) {
    return fail(ErrorCode::kInvalidArgument, std::format("rope base is {}, but must be positive", options.rope_base));
  }
  const TensorTypeFacts& type = facts(options.type);
  if (type.use != TensorUse::kWeight) {
    return fail(ErrorCode::kInvalidArgument, std::format("ggml cannot quantise to {}", type.name));
  }
  for (const auto& [name, width] : {std::pair{"--embd", options.embd}, std::pair{"--ff", options.ff}}) {
    if (width % type.block_size != 0) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("{} is {}, but type {} needs a multiple of {}", name, width, type.name, type.block_size));
    }
  }
  return {};
}

// A random cycle through 0..size-1 (Sattolo's shuffle): the predecessor of each.
std::vector<std::uint32_t> random_cycle(std::uint32_t size, std::uint64_t seed) {
  std::vector<std::uint32_t> before(size);
  std::iota(before.begin(), before.end(), 0);
  for (std::uint32_t i = size - 1; i > 0; --i) std::swap(before[i], before[mixed(seed, i) % i]);
  return before;
}

class Synthesizer {
 public:
  Synthesizer(const SynthOptions& options, unsigned threads, std::stop_token stop)
      : options_(options),
        threads_(threads),
        stop_(std::move(stop)),
        width_unit_(unit_of(options.embd)),
        ff_unit_(unit_of(options.ff)),
        pieces_per_row_(options.embd / width_unit_),
        halves_(pieces_per_row_ >= 2 ? 2 : 1),
        filler_count_(options.vocab - kSpecialTokens) {}

  Result<void> run(const std::filesystem::path& path) {
    state_keys();
    TRY(state_tensors());
    TRY(writer_.begin(path));
    TRY(write_tensors());
    return writer_.finish();
  }

 private:
  // The largest piece that is whole blocks and of which two or more make a row; else one block.
  std::uint32_t unit_of(std::uint32_t width) const {
    const std::uint32_t block = facts(options_.type).block_size;
    for (const std::uint32_t unit : {256U, 128U, 64U, 32U, 16U, 8U, 4U, 2U}) {
      if (unit % block == 0 && width % unit == 0 && width / unit >= 2) return unit;
    }
    return block;
  }

  void state_keys() {
    writer_.set<std::string_view>("general.architecture", "llama");
    writer_.set<std::string_view>("general.name", "baton synthetic model");
    if (const auto number = file_type(options_.type)) writer_.set("general.file_type", *number);
    writer_.set<std::uint32_t>("general.quantization_version", 2);
    writer_.set("llama.vocab_size", options_.vocab);
    writer_.set("llama.context_length", options_.context);
    writer_.set("llama.embedding_length", options_.embd);
    writer_.set("llama.block_count", options_.layers);
    writer_.set("llama.feed_forward_length", options_.ff);
    writer_.set("llama.attention.head_count", options_.heads);
    writer_.set("llama.attention.head_count_kv", options_.kv_heads);
    writer_.set("llama.attention.layer_norm_rms_epsilon", 1e-5F);
    writer_.set("llama.rope.dimension_count", head_width());
    writer_.set("llama.rope.freq_base", options_.rope_base);
    if (options_.experts > 0) {
      writer_.set("llama.expert_count", options_.experts);
      writer_.set("llama.expert_used_count", options_.experts_per_token);
    }
    write_synth_vocabulary(writer_, options_.vocab);
  }

  std::uint32_t head_width() const { return options_.embd / options_.heads; }

  // States every tensor in the order in which write_tensors() writes them.
  Result<void> state_tensors() {
    const std::uint64_t embd = options_.embd;
    const std::uint64_t kv = std::uint64_t{options_.kv_heads} * head_width();
    TRY(state_matrix("token_embd.weight", embd, options_.vocab));
    for (std::uint32_t layer = 0; layer < options_.layers; ++layer) {
      const auto name = [&](std::string_view part) { return std::format("blk.{}.{}.weight", layer, part); };
      TRY(state_norm(name("attn_norm")));
      TRY(state_matrix(name("attn_q"), embd, embd));
      TRY(state_matrix(name("attn_k"), embd, kv));
      TRY(state_matrix(name("attn_v"), embd, kv));
      TRY(state_matrix(name("attn_output"), embd, embd));
      TRY(state_norm(name("ffn_norm")));
      if (options_.experts == 0) {
        TRY(state_matrix(name("ffn_gate"), embd, options_.ff));
        TRY(state_matrix(name("ffn_up"), embd, options_.ff));
        TRY(state_matrix(name("ffn_down"), options_.ff, embd));
        continue;
      }
      TRY(writer_.add_tensor(name("ffn_gate_inp"), TensorType::kF32,
                             std::array<std::uint64_t, 2>{embd, options_.experts}));
      TRY(state_experts(name("ffn_gate_exps"), embd, options_.ff));
      TRY(state_experts(name("ffn_up_exps"), embd, options_.ff));
      TRY(state_experts(name("ffn_down_exps"), options_.ff, embd));
    }
    TRY(state_norm("output_norm.weight"));
    return state_matrix("output.weight", embd, options_.vocab);
  }

  Result<void> state_matrix(std::string_view name, std::uint64_t columns, std::uint64_t rows) {
    return writer_.add_tensor(name, options_.type, std::array{columns, rows});
  }
  Result<void> state_experts(std::string_view name, std::uint64_t columns, std::uint64_t rows) {
    return writer_.add_tensor(name, options_.type, std::array<std::uint64_t, 3>{columns, rows, options_.experts});
  }
  Result<void> state_norm(std::string_view name) {
    return writer_.add_tensor(name, TensorType::kF32, std::array{std::uint64_t{options_.embd}});
  }

  Result<void> write_tensors() {
    const double embd = options_.embd;
    const double ff = options_.ff;
    // How much larger the layers' sum is than the embedding. The larger the width, the better a sum of random vectors
    // keeps out of the way of the two successors; where a row is a single piece there is only one, and nothing but a
    // large sum can make the context count.
    const double context_rms = halves_ == 2 ? std::clamp(0.06 * std::sqrt(embd), 0.5, 3.0) : 0.2 * std::sqrt(embd);
    const double layer_rms = context_rms / std::sqrt(options_.layers);
    const double attention_rms = layer_rms * std::sqrt(kAttentionShare);
    const double forward_rms = layer_rms * std::sqrt(1 - kAttentionShare);
    const double attention_gain = std::sqrt(kScoreDeviation);

    const BlockPool embedding = TRY(pool(width_unit_, embedding_pieces(), 1.0));
    const BlockPool inner = TRY(pool(width_unit_, options_.pieces, 1 / std::sqrt(embd)));
    const BlockPool mixer =
        TRY(pool(width_unit_, options_.pieces, attention_rms / (attention_gain * kAttentionRms * std::sqrt(embd))));
    const BlockPool down = TRY(pool(ff_unit_, options_.pieces, forward_rms / (kGatedRms * std::sqrt(ff))));

    const std::uint64_t kv = std::uint64_t{options_.kv_heads} * head_width();
    const auto matrix = [&](const BlockPool& from, std::uint64_t columns, std::uint64_t rows) {
      return write_random(from, columns, rows);
    };
    TRY(write_embedding(embedding));
    for (std::uint32_t layer = 0; layer < options_.layers; ++layer) {
      TRY(write_norm(attention_gain));
      TRY(matrix(inner, options_.embd, options_.embd));
      TRY(matrix(inner, options_.embd, kv));
      TRY(matrix(inner, options_.embd, kv));
      TRY(matrix(mixer, options_.embd, options_.embd));
      TRY(write_norm(1.0));
      // The rows of all experts follow each other.
      const std::uint64_t networks = std::max(1U, options_.experts);
      if (options_.experts > 0) TRY(write_router());
      TRY(matrix(inner, options_.embd, options_.ff * networks));
      TRY(matrix(inner, options_.embd, options_.ff * networks));
      TRY(matrix(down, options_.ff, options_.embd * networks));
    }
    TRY(write_norm(kPeakLogit * halves_ * std::sqrt(1 + context_rms * context_rms) / embd));
    return write_output(embedding);
  }

  // Tokens with a piece in common are likely at the same time. Rows of many pieces share few by chance; where a row has
  // few, each token needs its own, as far as that can be quantised in seconds.
  static constexpr std::uint32_t kFewPieces = 4;
  static constexpr std::uint32_t kMaxOwnPieces = 1 << 16;
  std::uint32_t embedding_pieces() const {
    return pieces_per_row_ >= kFewPieces ? options_.pieces : std::min(pieces_per_row_ * options_.vocab, kMaxOwnPieces);
  }

  std::uint64_t next_seed() { return mixed(options_.seed, serial_++); }

  Result<BlockPool> pool(std::uint32_t unit, std::uint32_t pieces, double rms) {
    return BlockPool::create({options_.type, unit, pieces, static_cast<float>(rms)}, next_seed(), threads_);
  }

  // Weights around `gain`, unlike enough that leaving them out would show.
  Result<void> write_norm(double gain) {
    const std::uint64_t seed = next_seed();
    std::vector<float> weights(options_.embd);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      weights[i] = static_cast<float>(gain * (0.9 + 0.2 * static_cast<double>(mixed(seed, i) >> 11) * 0x1.0p-53));
    }
    return writer_.write(std::as_bytes(std::span(weights)));
  }

  // Scores of about 1: no expert takes all.
  Result<void> write_router() {
    const BlockPool rows = TRY(BlockPool::create({.type = TensorType::kF32,
                                                  .unit = options_.embd,
                                                  .count = options_.experts,
                                                  .rms = static_cast<float>(1 / std::sqrt(options_.embd))},
                                                 next_seed(), threads_));
    for (std::uint32_t expert = 0; expert < options_.experts; ++expert) TRY(writer_.write(rows.piece(expert)));
    return {};
  }

  Result<void> write_random(const BlockPool& from, std::uint64_t columns, std::uint64_t rows) {
    const std::uint64_t pieces = columns / from.unit();
    const std::uint64_t seed = next_seed();
    return write_rows(from, pieces, rows, [&](std::uint64_t row, std::uint64_t piece) {
      return from.piece(mixed(seed, row * pieces + piece));
    });
  }

  // A special token shares half its embedding with a filler, and so has one of the filler's successors.
  ByteSpan embedding_piece(const BlockPool& from, std::uint64_t token, std::uint64_t piece) const {
    if (token < kSpecialTokens && piece < pieces_per_row_ / halves_) token = kSpecialTokens + token % filler_count_;
    const std::uint64_t index = token * pieces_per_row_ + piece;
    return from.piece(pieces_per_row_ < kFewPieces ? index : mixed(embedding_seed_, index));
  }

  Result<void> write_embedding(const BlockPool& from) {
    embedding_seed_ = next_seed();
    return write_rows(from, pieces_per_row_, options_.vocab,
                      [&](std::uint64_t token, std::uint64_t piece) { return embedding_piece(from, token, piece); });
  }

  // Special tokens have rows of zeros and never win: no text ends early or has a stray byte.
  Result<void> write_output(const BlockPool& from) {
    const auto first = random_cycle(filler_count_, next_seed());
    const auto second = random_cycle(filler_count_, next_seed());
    return write_rows(from, pieces_per_row_, options_.vocab, [&](std::uint64_t token, std::uint64_t piece) {
      if (token < kSpecialTokens) return from.zero();
      const auto& before = piece < pieces_per_row_ / halves_ ? first : second;
      return embedding_piece(from, kSpecialTokens + before[token - kSpecialTokens], piece);
    });
  }

  // Fills chunks of rows with several threads, and writes them in order.
  template <typename PieceAt>
  Result<void> write_rows(const BlockPool& from, std::uint64_t pieces, std::uint64_t rows, const PieceAt& piece_at) {
    const std::uint64_t bytes_per_row = pieces * from.unit_bytes();
    const std::uint64_t rows_per_chunk = std::clamp<std::uint64_t>(kChunkBytes / bytes_per_row, 1, rows);
    chunk_.resize(rows_per_chunk * bytes_per_row);
    for (std::uint64_t begin = 0; begin < rows; begin += rows_per_chunk) {
      if (stop_.stop_requested()) return fail(ErrorCode::kCancelled, "cancelled: nothing is left of it");
      const std::uint64_t count = std::min(rows_per_chunk, rows - begin);
      const auto fill = [&](std::uint64_t first, std::uint64_t last) {
        std::byte* out = chunk_.data() + first * bytes_per_row;
        for (std::uint64_t row = begin + first; row < begin + last; ++row) {
          for (std::uint64_t piece = 0; piece < pieces; ++piece, out += from.unit_bytes()) {
            std::memcpy(out, piece_at(row, piece).data(), from.unit_bytes());
          }
        }
      };
      std::vector<std::jthread> workers;
      for (unsigned i = 1; i < threads_; ++i)
        workers.emplace_back(fill, count * i / threads_, count * (i + 1) / threads_);
      fill(0, count / threads_);
      workers.clear();
      TRY(writer_.write(ByteSpan(chunk_).first(count * bytes_per_row)));
    }
    return {};
  }

  const SynthOptions& options_;
  unsigned threads_;
  std::stop_token stop_;
  std::uint32_t width_unit_;
  std::uint32_t ff_unit_;
  std::uint32_t pieces_per_row_;
  std::uint32_t halves_;
  std::uint32_t filler_count_;
  std::uint64_t serial_ = 0;
  std::uint64_t embedding_seed_ = 0;
  GgufWriter writer_;
  Bytes chunk_;
};

}  // namespace

std::optional<SynthOptions> synth_preset(std::string_view name) {
  if (name == "1.1b") return SynthOptions{};
  return std::nullopt;
}

Result<void> synthesize(const SynthOptions& options, const std::filesystem::path& path, std::stop_token stop) {
  TRY(check(options));
  const unsigned threads = options.threads != 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency());
  return Synthesizer(options, threads, std::move(stop)).run(path);
}

}  // namespace baton::model
