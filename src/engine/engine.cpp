#include "engine/engine.h"

#include <algorithm>
#include <format>
#include <utility>

#include "base/attention_window.h"
#include "engine/cell_pool.h"
#include "engine/forward_pass.h"
#include "engine/ggml_device.h"
#include "engine/kv_cache.h"
#include "engine/prefill_kernels.h"
#include "engine/prefill_weights.h"
#include "engine/sequence_states.h"
#include "engine/step_weights.h"
#include "engine/weights.h"
#include "model/kv_rows.h"

namespace baton::engine {

namespace {

constexpr std::uint32_t kMaxContextTokens = 1U << 26U;
constexpr std::uint32_t kMaxChunkTokens = 1U << 16U;
constexpr std::uint32_t kMaxSequences = 1U << 16U;

std::unexpected<Error> invalid(std::string message) { return fail(ErrorCode::kInvalidArgument, std::move(message)); }

}  // namespace

struct Engine::Impl {
  std::shared_ptr<const Model> model;
  EngineOptions options;
  GgmlDevice device;
  Weights weights;
  KvCache cache;
  std::shared_ptr<CellPool> cells;
  std::uint32_t rows_in_window;  // cells of one sequence in layers that keep a window; 0 where none does
  std::shared_ptr<CellPool> window_cells;
  std::optional<Emulation> emulation;
  // Null where ggml computes everything.
  std::unique_ptr<PrefillWeights> prefill_weights;
  std::unique_ptr<StepWeights> step_weights;
  std::unique_ptr<PrefillKernels> prefill_kernels;
  std::unique_ptr<ForwardPass> pass;

  Impl(std::shared_ptr<const Model> model_in, EngineOptions options_in, GgmlDevice device_in)
      : model(std::move(model_in)),
        options(std::move(options_in)),
        device(std::move(device_in)),
        weights(model, device, has_kernels() ? FewRows::kByStepWeights : FewRows::kByDevice),
        cells(std::make_shared<CellPool>(options.context_tokens)),
        rows_in_window(static_cast<std::uint32_t>(model::rows_in_window(shape(), demand()))),
        window_cells(std::make_shared<CellPool>(rows_in_window * options.sequences)) {}

  const model::ModelShape& shape() const { return model->shape(); }
  bool has_kernels() const {
    return device.info().kind == DeviceKind::kCpu && options.prefill_pack != PrefillPack::kOff;
  }
  model::KvDemand demand() const {
    return {.context_tokens = options.context_tokens,
            .max_chunk_tokens = options.max_chunk_tokens,
            .sequences = options.sequences};
  }

  std::vector<LayerRows> rows_of(const CellRun& run, const CellRun& window_run) const {
    std::vector<LayerRows> rows;
    rows.reserve(shape().layer_count);
    for (std::uint32_t layer = 0; layer < shape().layer_count; ++layer) {
      rows.push_back(
          model::keeps_window(shape(), layer, demand())
              ? LayerRows::windowed(window_run.first(), window_run.count(), shape().layers[layer].attention_window)
              : LayerRows::full(run.first(), run.count()));
    }
    return rows;
  }

  Result<void> check_continues(const Sequence& sequence, LayerRange layers, std::uint32_t position) const {
    for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
      const LayerRows& rows = sequence.rows_[layer];
      if (rows.can_continue_at(position)) continue;
      const std::uint32_t window = shape().layers[layer].attention_window;
      return fail(
          ErrorCode::kNotFound,
          std::format("a pass from position {} on needs positions {} to {} in layer {}, which keeps a window of "
                      "{} and has {} to {}: begin again at position 0",
                      position, first_visible(position, window), position, layer, window, rows.begin(), rows.end()));
    }
    return {};
  }

  Result<void> check_spans(const Batch& batch) const {
    if (batch.spans.empty()) return invalid("a batch needs a span");
    std::vector<const Sequence*> seen;
    for (const BatchSpan& span : batch.spans) {
      const Sequence* sequence = span.sequence;
      if (sequence == nullptr || sequence->cells_.pool() != cells)
        return invalid("a span's sequence is not this engine's");
      if (span.token_count == 0) return invalid("a span needs a token");
      const std::uint32_t capacity = sequence->capacity();
      if (span.first_position > capacity || span.token_count > capacity - span.first_position) {
        return invalid(std::format("positions {} and {} more do not fit a sequence of {} cells", span.first_position,
                                   span.token_count, capacity));
      }
      seen.push_back(sequence);
    }
    std::ranges::sort(seen);
    if (std::ranges::adjacent_find(seen) != seen.end()) return invalid("a sequence is twice in one batch");
    return {};
  }

  Result<void> check(const Batch& batch, const Outputs& outputs) const {
    const LayerRange layers = batch.layers;
    if (layers.empty() || layers.end > shape().layer_count) {
      return invalid(std::format("layers {}:{} of a model with {}", layers.begin, layers.end, shape().layer_count));
    }
    if (!weights.holds(layers)) {
      return invalid(std::format("layers {}:{} are not loaded here", layers.begin, layers.end));
    }
    TRY(check_spans(batch));
    std::uint64_t rows = 0;
    for (const BatchSpan& span : batch.spans) rows += span.token_count;
    if (rows > options.max_chunk_tokens) {
      return invalid(std::format("{} tokens are more than a chunk of {}", rows, options.max_chunk_tokens));
    }
    TRY(check_buffers(batch, outputs, rows));
    TRY(check_states(batch));
    const auto vocabulary = static_cast<Token>(shape().vocabulary_size);
    for (const Token token : batch.tokens) {
      if (token < 0 || token >= vocabulary) {
        return invalid(std::format("token {} is not in the vocabulary of {}", token, vocabulary));
      }
    }
    for (const BatchSpan& span : batch.spans) TRY(check_continues(*span.sequence, layers, span.first_position));
    return {};
  }

  Result<void> check_states(const Batch& batch) const {
    for (const BatchSpan& span : batch.spans) {
      if (span.sequence->states_ == nullptr) continue;
      for (std::uint32_t layer = batch.layers.begin; layer < batch.layers.end; ++layer) {
        if (!shape().layers[layer].memory.keeps_state()) continue;
        if (span.rows == SpanRows::kAsSteps && span.token_count > 1) {
          return invalid(std::format("layer {} keeps a state, which takes steps one by one", layer));
        }
        TRY(span.sequence->states_->ensure(device, shape(), layer));
        const auto position = span.sequence->states_->position(layer);
        if (span.first_position == 0 || span.first_position == position) continue;
        return invalid(std::format("layer {} keeps a state of {} tokens and cannot go on from position {}", layer,
                                   position.value_or(0), span.first_position));
      }
    }
    return {};
  }

  Result<void> check_state(const Sequence& sequence, std::uint32_t layer, std::size_t bytes) const {
    if (sequence.cells_.pool() != cells || layer >= shape().layer_count ||
        !shape().layers[layer].memory.keeps_state()) {
      return invalid(std::format("no state for layer {}", layer));
    }
    TRY(sequence.states_->ensure(device, shape(), layer));
    if (bytes != std::uint64_t{shape().layers[layer].memory.state_width} * sizeof(float)) {
      return invalid("a state of the wrong size");
    }
    return {};
  }

  Result<void> check_buffers(const Batch& batch, const Outputs& outputs, std::uint64_t rows) const {
    const bool at_start = batch.layers.begin == 0;
    const bool at_end = batch.layers.end == shape().layer_count;
    const std::uint64_t hidden = rows * shape().embedding_width;
    const std::uint64_t logits = at_end ? std::uint64_t{logit_rows(batch.spans)} * head_width(shape(), batch.head) : 0;
    if (!at_end && logit_rows(batch.spans) > 0) return invalid("only the last layer's pass gives logits");
    if (batch.tokens.size() != (at_start ? rows : 0)) return invalid("one token for each row is needed");
    if (batch.hidden.size() != (at_start ? 0 : hidden)) return invalid("hidden states of the wrong size");
    if (outputs.hidden.size() != (at_end ? 0 : hidden)) return invalid("a buffer for hidden states of the wrong size");
    if (outputs.logits.size() != logits) return invalid("a buffer for logits of the wrong size");
    return {};
  }

  bool has_place(const Sequence& sequence, std::uint32_t layer, std::uint32_t first, std::uint32_t count) const {
    return sequence.cells_.pool() == cells && cache.holds(layer) && first <= sequence.capacity() &&
           count <= sequence.capacity() - first;
  }
  bool has_rows(const Sequence& sequence, std::uint32_t layer, std::uint32_t first, std::uint32_t count) const {
    return has_place(sequence, layer, first, count) && sequence.rows_[layer].has(first, count);
  }

  Result<void> check_place(const Sequence& sequence, std::uint32_t layer, std::uint32_t first, std::uint32_t count,
                           std::size_t k_bytes, std::size_t v_bytes) const {
    if (!has_place(sequence, layer, first, count)) {
      return invalid(std::format("no cells for layer {}, positions {} and {} more", layer, first, count));
    }
    const KvLayout& layout = cache.layout(layer);
    if (k_bytes != std::uint64_t{count} * layout.k_row_bytes || v_bytes != std::uint64_t{count} * layout.v_row_bytes) {
      return invalid("K or V of the wrong size");
    }
    return {};
  }
};

std::uint32_t head_width(const model::ModelShape& shape, HeadResult result) {
  return result == HeadResult::kNormed ? shape.embedding_width : shape.vocabulary_size;
}

std::uint32_t logit_rows(std::span<const BatchSpan> spans) {
  std::uint32_t rows = 0;
  for (const BatchSpan& span : spans) {
    if (span.logits == WantedLogits::kLast) rows += 1;
    if (span.logits == WantedLogits::kAll) rows += span.token_count;
  }
  return rows;
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<const Model> model, const EngineOptions& options) {
  const model::ModelShape& shape = model->shape();
  EngineOptions filled = options;
  if (options.context_tokens == 0 || options.context_tokens > kMaxContextTokens) {
    return invalid(
        std::format("a context of {} tokens; it must be from 1 to {}", options.context_tokens, kMaxContextTokens));
  }
  if (options.max_chunk_tokens == 0 || options.max_chunk_tokens > kMaxChunkTokens) {
    return invalid(
        std::format("chunks of {} tokens; it must be from 1 to {}", options.max_chunk_tokens, kMaxChunkTokens));
  }
  if (options.sequences == 0 || options.sequences > kMaxSequences) {
    return invalid(std::format("{} sequences at once; it must be from 1 to {}", options.sequences, kMaxSequences));
  }
  filled.context_tokens = model::block_above(options.context_tokens);
  filled.layers = options.layers.value_or(LayerRange{0, shape.layer_count});
  if (filled.layers->empty() || filled.layers->end > shape.layer_count) {
    return invalid(
        std::format("layers {}:{} of a model with {}", filled.layers->begin, filled.layers->end, shape.layer_count));
  }
  std::optional<Emulation> emulation;
  if (options.emulation) emulation = TRY(Emulation::create(*options.emulation));

  GgmlDevice device = TRY(GgmlDevice::open(options.device, options.threads));
  filled.device = device.info().name;
  filled.threads = device.threads();
  auto impl = std::make_unique<Impl>(std::move(model), std::move(filled), std::move(device));
  impl->emulation = std::move(emulation);
  TRY(impl->cache.open(impl->device, impl->shape(), impl->options.cache_type, impl->demand(), *impl->options.layers));
  if (impl->has_kernels()) {
    impl->step_weights = std::make_unique<StepWeights>(impl->model, impl->options.threads);
    impl->prefill_weights =
        std::make_unique<PrefillWeights>(impl->model, impl->options.prefill_pack, impl->options.threads);
    impl->prefill_kernels = std::make_unique<PrefillKernels>(*impl->prefill_weights, *impl->step_weights);
  }
  impl->pass = TRY(ForwardPass::create(*impl->model, impl->device, impl->weights, impl->cache,
                                       impl->prefill_kernels.get(), impl->options.max_chunk_tokens));
  std::unique_ptr<Engine> engine(new Engine(std::move(impl)));
  TRY(engine->ensure_layers(*engine->options().layers));
  return engine;
}

const Model& Engine::model() const { return *impl_->model; }
const model::ModelShape& Engine::shape() const { return impl_->shape(); }
const EngineOptions& Engine::options() const { return impl_->options; }
const DeviceInfo& Engine::device() const { return impl_->device.info(); }
bool Engine::emulated() const { return impl_->emulation.has_value(); }
PackingProgress Engine::packing() const {
  return impl_->prefill_weights == nullptr ? PackingProgress{} : impl_->prefill_weights->progress();
}
bool Engine::holds(LayerRange layers) const { return impl_->weights.holds(layers); }
std::uint32_t Engine::free_cells() const { return impl_->cells->free_cells(); }
const KvLayout& Engine::kv_layout(std::uint32_t layer) const { return impl_->cache.layout(layer); }

EngineStats Engine::stats() const {
  EngineStats stats;
  impl_->weights.add_to(stats);
  if (impl_->step_weights != nullptr) stats.repacked_weight_bytes += impl_->step_weights->bytes();
  stats.packed_weight_bytes = packing().total_bytes;
  stats.kv_bytes = impl_->cache.bytes();
  stats.compute_bytes = impl_->pass->memory_bytes();
  return stats;
}

Result<void> Engine::ensure_layers(LayerRange layers) {
  if (layers.empty() || layers.end > shape().layer_count) {
    return invalid(std::format("layers {}:{} of a model with {}", layers.begin, layers.end, shape().layer_count));
  }
  if (holds(layers)) return {};
  TRY(impl_->cache.ensure(layers));
  TRY(impl_->weights.ensure(layers, [&] { return impl_->pass->check_device(layers); }));
  if (!impl_->has_kernels()) return {};
  TRY(impl_->step_weights->add(
      layers, [&](const model::TensorInfo& matrix) { return impl_->prefill_weights->reads_in_file(matrix); }));
  TRY(impl_->prefill_weights->add(layers, stats().mapped_weight_bytes));
  for (std::uint32_t layer = layers.begin; layer < layers.end; ++layer) {
    if (impl_->options.while_packing == WhilePacking::kWait) impl_->prefill_weights->wait_until_packed(layer);
  }
  return {};
}

Result<Sequence> Engine::reserve(std::uint32_t tokens) {
  if (tokens == 0) return invalid("a sequence of no tokens");
  const auto take = [&](const std::shared_ptr<CellPool>& pool, std::uint32_t count, std::string_view kept_by,
                        std::string_view advice) -> Result<CellRun> {
    const auto first = count > pool->capacity() ? std::nullopt : pool->take(count);
    if (first) return CellRun(pool, *first, count);
    const std::uint32_t taken = pool->capacity() - pool->free_cells();
    std::string why = std::format("there is no room for {} tokens: {} {} at a time", tokens, kept_by, pool->capacity());
    if (taken > 0) why += std::format(", and other requests have {} of them", taken);
    if (pool->free_cells() >= count) why += ", so that no gap between them is large enough";
    return fail(
        ErrorCode::kNoCapacity,
        std::format("{}; {}{}", why, count > pool->capacity() ? "" : "wait for other requests to end, or ", advice));
  };
  const std::uint32_t wanted = model::block_above(std::min(tokens, kMaxContextTokens + 1));
  const CellPool& pool = *impl_->cells;
  CellRun cells =
      TRY(take(impl_->cells, wanted, "this node keeps",
               std::format("start the node with --ctx {} or more", pool.capacity() - pool.largest_gap() + wanted)));
  const std::uint32_t in_window = std::min(cells.count(), impl_->rows_in_window);
  CellRun window_cells;
  if (in_window > 0) {
    window_cells = TRY(take(impl_->window_cells, in_window, "this node's sliding windows keep",
                            std::format("start the node with --sequences {} or more", impl_->options.sequences + 1)));
  }
  auto rows = impl_->rows_of(cells, window_cells);
  Sequence sequence(std::move(cells), std::move(window_cells), std::move(rows));
  const auto keeps_state = [](const model::LayerShape& layer) { return layer.memory.keeps_state(); };
  if (std::ranges::none_of(shape().layers, keeps_state)) return sequence;
  sequence.states_ = std::make_shared<SequenceStates>(shape().layer_count);
  for (std::uint32_t layer = 0; layer < shape().layer_count; ++layer) {
    if (impl_->cache.holds(layer)) TRY(sequence.states_->ensure(impl_->device, shape(), layer));
  }
  return sequence;
}

Result<void> Engine::resize(Sequence& sequence, std::uint32_t tokens) {
  if (sequence.cells_.pool() != impl_->cells || tokens == 0) return invalid("no sequence of this engine to resize");
  const std::uint32_t cells = model::block_above(std::min(tokens, kMaxContextTokens + 1));
  const std::uint32_t before = sequence.window_cells_.count();
  // Rows of a window stay where they are: moving them would be no gain.
  const std::uint32_t in_window = std::max(before, std::min(cells, impl_->rows_in_window));
  const auto no_room = [&] {
    return fail(ErrorCode::kNoCapacity, std::format("the cells behind a sequence of {} are not free for {} tokens",
                                                    sequence.capacity(), tokens));
  };
  if (in_window > before && !sequence.window_cells_.resize(in_window)) return no_room();
  if (!sequence.cells_.resize(cells)) {
    if (in_window > before) sequence.window_cells_.resize(before);
    return no_room();
  }
  for (LayerRows& rows : sequence.rows_) rows.resize(rows.keeps_window() ? in_window : cells);
  return {};
}

void Engine::forget_from(Sequence& sequence, std::uint32_t position) {
  for (LayerRows& rows : sequence.rows_) rows.forget_from(position);
}

bool Engine::keeps_window(std::uint32_t layer) const { return model::keeps_window(shape(), layer, impl_->demand()); }

bool Engine::can_continue_at(const Sequence& sequence, LayerRange layers, std::uint32_t position) const {
  return impl_->check_continues(sequence, layers, position).has_value();
}

Result<void> Engine::forward(const Batch& batch, const Outputs& outputs, LayerObserver* observer) {
  TRY(impl_->check(batch, outputs));
  return impl_->pass->run(batch, outputs, observer, impl_->emulation ? &*impl_->emulation : nullptr);
}

bool Engine::steps_exactly() const { return impl_->device.info().kind == DeviceKind::kCpu; }
std::uint32_t Engine::tokens_to_take_back() const {
  const bool keeps_states =
      std::ranges::any_of(shape().layers, [](const model::LayerShape& layer) { return layer.memory.keeps_state(); });
  if (keeps_states) return 0;
  return impl_->rows_in_window > 0 ? model::kRollbackTokens : impl_->options.context_tokens;
}

std::optional<KvView> Engine::view(const Sequence& sequence, std::uint32_t layer, std::uint32_t first_position,
                                   std::uint32_t token_count) const {
  if (!impl_->has_rows(sequence, layer, first_position, token_count)) return std::nullopt;
  return impl_->cache.view(layer, sequence.rows_[layer].cell(first_position), token_count);
}

Result<void> Engine::read_kv(const Sequence& sequence, std::uint32_t layer, std::uint32_t first_position,
                             std::uint32_t token_count, std::span<std::byte> k, std::span<std::byte> v) const {
  TRY(impl_->check_place(sequence, layer, first_position, token_count, k.size(), v.size()));
  const LayerRows& rows = sequence.rows_[layer];
  if (!rows.has(first_position, token_count)) {
    return fail(ErrorCode::kNotFound,
                std::format("layer {} keeps a window and has positions {} to {}, not {} to {}", layer, rows.begin(),
                            rows.end(), first_position, first_position + token_count));
  }
  impl_->cache.read(layer, rows.cell(first_position), k, v);
  return {};
}

Result<void> Engine::write_kv(Sequence& sequence, std::uint32_t layer, std::uint32_t first_position,
                              std::uint32_t token_count, ByteSpan k, ByteSpan v) {
  TRY(impl_->check_place(sequence, layer, first_position, token_count, k.size(), v.size()));
  LayerRows& rows = sequence.rows_[layer];
  const LayerRows::Preparation preparation = rows.prepare_write(first_position, token_count);
  impl_->cache.prepare(layer, preparation);
  const KvLayout& layout = impl_->cache.layout(layer);
  impl_->cache.write(layer, rows.cell(first_position + preparation.skipped),
                     k.subspan(std::size_t{preparation.skipped} * layout.k_row_bytes),
                     v.subspan(std::size_t{preparation.skipped} * layout.v_row_bytes));
  return {};
}

std::optional<std::uint32_t> Engine::state_position(const Sequence& sequence, std::uint32_t layer) const {
  if (sequence.states_ == nullptr || layer >= shape().layer_count || !sequence.states_->holds(layer)) {
    return std::nullopt;
  }
  return sequence.states_->position(layer);
}

Result<void> Engine::read_state(const Sequence& sequence, std::uint32_t layer, std::span<std::byte> state) const {
  TRY(impl_->check_state(sequence, layer, state.size()));
  if (!sequence.states_->position(layer)) return invalid(std::format("layer {} has lost its state", layer));
  sequence.states_->read(layer, state);
  return {};
}

Result<void> Engine::write_state(Sequence& sequence, std::uint32_t layer, std::uint32_t position, ByteSpan state) {
  TRY(impl_->check_state(sequence, layer, state.size()));
  if (position > sequence.capacity()) return invalid("a state behind its sequence's end");
  sequence.states_->write(layer, state);
  sequence.states_->set_position(layer, position);
  return {};
}

Result<void> Engine::copy_prefix(const Sequence& from, Sequence& to, std::uint32_t token_count) {
  if (token_count > from.capacity() || token_count > to.capacity()) return invalid("a prefix longer than its sequence");
  for (std::uint32_t layer = 0; layer < shape().layer_count; ++layer) {
    if (!impl_->cache.holds(layer)) continue;
    if (const std::uint32_t width = shape().layers[layer].memory.state_width; width != 0) {
      if (state_position(from, layer) != token_count) {
        return invalid(std::format("layer {} keeps no state of {} tokens to copy", layer, token_count));
      }
      Bytes state(std::size_t{width} * sizeof(float));
      TRY(read_state(from, layer, state));
      TRY(write_state(to, layer, token_count, state));
    }
    TRY(impl_->check_continues(from, {layer, layer + 1}, token_count));
    const std::uint32_t first =
        keeps_window(layer) ? first_visible(token_count, shape().layers[layer].attention_window) : 0;
    const std::uint32_t count = token_count - first;
    if (const auto rows = view(from, layer, first, count)) {
      TRY(write_kv(to, layer, first, count, rows->k, rows->v));
      continue;
    }
    const KvLayout& layout = kv_layout(layer);
    Bytes k(std::size_t{count} * layout.k_row_bytes);
    Bytes v(std::size_t{count} * layout.v_row_bytes);
    TRY(read_kv(from, layer, first, count, k, v));
    TRY(write_kv(to, layer, first, count, k, v));
  }
  return {};
}

std::optional<EmulationReport> Engine::emulation_report() const {
  if (!impl_->emulation) return std::nullopt;
  return impl_->emulation->report();
}

void Engine::reset_emulation_report() {
  if (impl_->emulation) impl_->emulation->reset_report();
}

}  // namespace baton::engine
