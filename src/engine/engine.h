// The engine: a device with (some of) a model's weights and the KV cache, running forward passes over layer ranges.
//
// Threads: forward(), ensure_layers() and the emulation report belong to one thread, the executor's (executor.h).
// reserve(), view(), read_kv(), write_kv(), read_state(), write_state() and the const getters may be called from any
// thread; two of them, or one of them and a forward pass, must not touch the same cells or state of the same layer at
// once unless both only read. In a layer that keeps a window of each sequence (keeps_window()), not the same layer of
// the same sequence: what is written there may move or overwrite what was before.
//
// Same bits: on one device with one number of threads, a pass over given spans gives the same bits whether its layers
// run in one call or several, in one process or several, and wherever its sequences' cells lie. Another chunking or
// another mix of spans may change the last bits, and so may weights that are not packed yet
// (WhilePacking::kComputeWithout).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/layer_range.h"
#include "base/result.h"
#include "engine/device.h"
#include "engine/emulation.h"
#include "engine/model.h"
#include "engine/prefill_pack.h"
#include "engine/sequence.h"
#include "model/shape.h"

namespace baton::engine {

enum class CacheType { kF16, kQ8_0 };

std::string_view cache_type_name(CacheType type);  // "f16", "q8_0"
Result<CacheType> parse_cache_type(std::string_view name);

struct EngineOptions {
  std::string device;                    // a name from list_devices(); empty: the first GPU, else the CPU
  unsigned threads = 0;                  // 0: usable_cores()
  std::uint32_t context_tokens = 4096;   // KV cells in all, rounded up to a multiple of 256
  std::uint32_t max_chunk_tokens = 512;  // the most tokens of one forward pass
  // How many sequences at once find room in layers with a sliding window, which keep the window and a chunk of each and
  // not the whole context. Where that would not save memory, those layers keep all, as others do.
  std::uint32_t sequences = 4;
  CacheType cache_type = CacheType::kF16;
  PrefillPack prefill_pack = PrefillPack::kAuto;
  WhilePacking while_packing = WhilePacking::kWait;
  std::optional<EmulatedDevice> emulation;
  std::optional<LayerRange> layers;  // whose weights and KV to hold; all by default
};

// One token's rows in one layer, as the cache stores them. K and V are `[kv head][head width]`, K after norm and RoPE.
// A latent layer has one row and no V: the normed latent, then the rotated part that all heads share. A layer without
// rows has widths of 0.
struct KvLayout {
  CacheType type = CacheType::kF16;
  std::uint32_t k_width = 0;  // elements
  std::uint32_t v_width = 0;
  std::uint32_t k_row_bytes = 0;  // bytes of one token; rows follow each other without gaps
  std::uint32_t v_row_bytes = 0;
};

// Rows of consecutive tokens, in the cache itself.
struct KvView {
  ByteSpan k;
  ByteSpan v;
};

enum class WantedLogits { kNone, kLast, kAll };

// What the rows become that ask for logits.
enum class HeadResult {
  kLogits,
  kNormed,  // the model ends with its output norm: what a text's embedding is made of
};

// Values in such a row.
std::uint32_t head_width(const model::ModelShape& shape, HeadResult result);

// How the rows of a span come about.
enum class SpanRows {
  kTogether,  // as is fastest
  kAsSteps,   // each as a pass of that token alone would: with the same bits where Engine::steps_exactly()
};

// Consecutive tokens of one sequence. Their K and V are written; they attend to themselves and everything before.
struct BatchSpan {
  Sequence* sequence = nullptr;
  std::uint32_t first_position = 0;
  std::uint32_t token_count = 0;
  WantedLogits logits = WantedLogits::kNone;  // only where the pass ends with the last layer
  SpanRows rows = SpanRows::kTogether;
};

// Prefill is one span of many tokens, decode several spans of one, checking a draft a span of a few kAsSteps.
struct Batch {
  LayerRange layers;
  std::span<const BatchSpan> spans;  // each of another sequence
  std::span<const Token> tokens;     // all spans' tokens in order, where layers.begin is 0
  std::span<const float> hidden;     // else their activations: [token][embedding_width]
  HeadResult head = HeadResult::kLogits;
};

struct Outputs {
  std::span<float> hidden;  // [token][embedding_width], where layers.end is not the last layer's
  std::span<float> logits;  // [row][head_width], rows in the order of spans; else
};

// Rows of logits that these spans ask for.
std::uint32_t logit_rows(std::span<const BatchSpan> spans);

class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  // The K and V of the pass's tokens in this layer are final and may be read by any thread; with emulation, the
  // emulated device has got there too. Called on the executor thread: whatever it does delays the next layer.
  // kStop cancels the pass.
  enum class Next { kContinue, kStop };
  virtual Next layer_done(std::uint32_t layer) = 0;
};

struct EngineStats {
  std::uint64_t mapped_weight_bytes = 0;    // used in place from the file
  std::uint64_t copied_weight_bytes = 0;    // copied to the device as they are
  std::uint64_t repacked_weight_bytes = 0;  // copied in the device's own layout
  std::uint64_t packed_weight_bytes = 0;    // copies for prefill, with those still being made
  std::uint64_t kv_bytes = 0;
  std::uint64_t compute_bytes = 0;  // activations and inputs
};

class Engine {
 public:
  // Loads the weights of options.layers. Fails with kNotFound for an unknown device, kNoCapacity where memory is short.
  static Result<std::unique_ptr<Engine>> create(std::shared_ptr<const Model> model, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Model& model() const;
  const model::ModelShape& shape() const;
  const EngineOptions& options() const;  // with the defaults filled in
  const DeviceInfo& device() const;
  bool emulated() const;
  EngineStats stats() const;  // executor thread

  // How far the packing of weights for prefill has got, of the layers loaded so far. Any thread.
  PackingProgress packing() const;

  // Whether every layer of the range can run here now. Any thread.
  bool holds(LayerRange layers) const;
  // Loads those layers of the range that are missing. Executor thread; may take seconds, with WhilePacking::kWait some
  // for each billion quantised weights more.
  Result<void> ensure_layers(LayerRange layers);

  // Cells for that many tokens, in every layer held now or later. Never waits: kNoCapacity where no gap is large
  // enough.
  Result<Sequence> reserve(std::uint32_t tokens);
  std::uint32_t free_cells() const;
  // Changes how many tokens the sequence has room for, where it lies: gives cells at its end back, or takes those
  // behind it. kNoCapacity where these are not free, and nothing has changed. For whoever may write to the sequence.
  Result<void> resize(Sequence& sequence, std::uint32_t tokens);
  // As if nothing had been written from `position` on, and nothing at all in layers that cannot continue there; states
  // stay. For whoever may write to the sequence.
  void forget_from(Sequence& sequence, std::uint32_t position);
  // Whether the layer keeps only the last positions of each sequence: those that later ones see, at least a chunk more,
  // and model::kRollbackTokens behind a pass of no more tokens than that. Any thread.
  bool keeps_window(std::uint32_t layer) const;
  // Whether a pass over these layers may begin at `position`: what it sees of the positions before it is there, as far
  // as windows go: layers that keep everything trust the caller, and of states state_position() tells. For whoever may
  // write to the sequence.
  bool can_continue_at(const Sequence& sequence, LayerRange layers, std::uint32_t position) const;

  // Runs the batch through its layers. A layer's state goes on only from where it stands: a span begins there, or at
  // position 0, which forgets what was; anything else is kInvalidArgument, and so is a layer whose last pass failed.
  // Everything is checked first: kInvalidArgument for a batch that makes no sense
  // (a token outside the vocabulary, a span beyond its sequence's cells, buffers of the wrong size, layers not held),
  // kNotFound where a window lacks what a span sees (can_continue_at): only position 0 is possible then.
  // kCancelled where the observer stopped it: layers reported before are whole, the next is not begun.
  // Where the pass ends with the last layer, only rows whose logits are wanted go on after that layer's attention.
  // It may clear cells of its spans' sequences between a span's end and the next multiple of 256 positions, in the
  // layers it runs, the first time it gets there.
  Result<void> forward(const Batch& batch, const Outputs& outputs, LayerObserver* observer = nullptr);

  // Whether rows kAsSteps get the very bits of passes of their own, whatever else is in the batch. Any thread.
  bool steps_exactly() const;
  // How many of a sequence's last tokens may be taken back: passes may go on from there with other tokens, as if those
  // had never been. All where every layer keeps a row for each; none where a layer keeps a state. Any thread.
  std::uint32_t tokens_to_take_back() const;

  const KvLayout& kv_layout(std::uint32_t layer) const;
  // The cache's own memory, where the host can read it (CPU); nothing elsewhere, or for a range that does not exist or
  // is gone from a window. In a layer that keeps a window it is good until the sequence's next pass or write there.
  std::optional<KvView> view(const Sequence& sequence, std::uint32_t layer, std::uint32_t first_position,
                             std::uint32_t token_count) const;
  // Copies rows out of or into the cache, in its own type; the spans' sizes must be token_count rows exactly. What is
  // written to a layer that keeps a window ends the sequence there: it is written in the order of positions, and a gap
  // gives up all that was before it.
  Result<void> read_kv(const Sequence& sequence, std::uint32_t layer, std::uint32_t first_position,
                       std::uint32_t token_count, std::span<std::byte> k, std::span<std::byte> v) const;
  Result<void> write_kv(Sequence& sequence, std::uint32_t layer, std::uint32_t first_position,
                        std::uint32_t token_count, ByteSpan k, ByteSpan v);
  // The tokens that a layer's state stands for; nothing where it has none, or none that can be gone on from.
  std::optional<std::uint32_t> state_position(const Sequence& sequence, std::uint32_t layer) const;
  // Copies a layer's whole state out, or in as that behind `position` tokens. F32, LayerMemory::state_width of them:
  // the convolution's last inputs, [channel][token], and behind them a state space's memory, [head][channel][element].
  Result<void> read_state(const Sequence& sequence, std::uint32_t layer, std::span<std::byte> state) const;
  Result<void> write_state(Sequence& sequence, std::uint32_t layer, std::uint32_t position, ByteSpan state);
  // Gives `to` the first `token_count` positions of `from` in all layers held, by copying what can be seen from there
  // on. kNotFound where a window of `from` cannot continue at that position, kInvalidArgument where a layer's state
  // stands elsewhere.
  Result<void> copy_prefix(const Sequence& from, Sequence& to, std::uint32_t token_count);

  // Nothing where the engine is not emulated. Executor thread.
  std::optional<EmulationReport> emulation_report() const;
  void reset_emulation_report();

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::engine
