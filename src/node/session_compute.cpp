// A session's forward passes: what is submitted when, and what follows from each.
#include <algorithm>

#include "node/session.h"

namespace baton::node {

namespace {

// One pass computes while the next already waits in the executor's queue, so that the device never idles between them.
constexpr std::size_t kPassesInFlight = 2;

// So many chunks may be under way to a next stage that has not taken them in. Hidden states go out before K and V: more
// of them would use up all credit and let K and V wait until the next stage has caught up (four slices of the largest
// kind fill a receiver's staging).
constexpr std::size_t kChunksAhead = 4;

// Calls back after each layer, on the executor's thread.
class Watcher : public engine::LayerObserver {
 public:
  using OnLayer = std::function<Next(std::uint32_t)>;
  explicit Watcher(OnLayer on_layer) : on_layer_(std::move(on_layer)) {}
  Next layer_done(std::uint32_t layer) override { return on_layer_(layer); }

 private:
  OnLayer on_layer_;
};

}  // namespace

bool Session::has_input(const plan::Stage& stage, std::uint32_t position) const {
  return stage.layers.begin == 0 || hidden_inbox_.contains(position);
}

bool Session::decode_ready() const {
  return chunks_done_ == chunks_.size() &&
         std::ranges::all_of(incoming_, [&](const auto& entry) { return prefill_complete(entry.first); });
}

void Session::pump() {
  if (!begun_ || ended_) return;
  while (next_chunk_ < chunks_.size() && !ended_ && in_flight_ < kPassesInFlight) {
    const plan::Stage& here = *stage(Phase::kPrefill);
    const Chunk chunk = chunks_[next_chunk_];
    if (here.layers.end < layers_ && unacknowledged_hidden_ + in_flight_ >= kChunksAhead) break;
    if (keeps_too_much() || !has_input(here, chunk.first_position)) break;
    auto pass = std::make_unique<Pass>();
    pass->phase = Phase::kPrefill;
    pass->layers = here.layers;
    pass->chunk = chunk;
    pass->last_of_prefill = ++next_chunk_ == chunks_.size();
    submit(std::move(pass));
  }
  const plan::Stage* here = stage(Phase::kDecode);
  while (here != nullptr && !ended_ && in_flight_ < kPassesInFlight && decode_ready()) {
    const bool from_tokens = here->layers.begin == 0;
    if (from_tokens ? steps_.empty() : !has_input(*here, next_position_)) break;
    auto pass = std::make_unique<Pass>();
    pass->phase = Phase::kDecode;
    pass->layers = here->layers;
    pass->chunk = {next_position_, 1};
    if (from_tokens) {
      pass->tokens = std::move(steps_.front());
      pass->chunk.tokens = static_cast<std::uint32_t>(pass->tokens.size());
      steps_.pop_front();
    }
    next_position_ += pass->chunk.tokens;
    submit(std::move(pass));
  }
  report_progress();
}

void Session::submit(std::unique_ptr<Pass> pass) {
  if (pass->layers.begin > 0) {
    const auto input = hidden_inbox_.find(pass->chunk.first_position);
    pass->hidden_in = std::move(input->second);
    hidden_inbox_bytes_ -= pass->hidden_in.size() * sizeof(float);
    hidden_inbox_.erase(input);
    take_staged_hidden();
    if (ended_) return;
  }
  ++in_flight_;
  const auto submitted = host_.executor.submit(
      [self = shared_from_this(), pass = std::move(pass)](engine::Engine& engine, const std::stop_token& stop) mutable {
        Result<void> result = self->run(*pass, engine, stop);
        Session& session = *self;
        session.host_.loop.post([self = std::move(self), pass = std::move(pass), result = std::move(result)]() mutable {
          self->on_pass_done(std::move(pass), result);
        });
      });
  if (!submitted) {
    --in_flight_;
    fail_with(submitted.error());
  }
}

// On the executor's thread: touches nothing of the session but what never changes, and cancelled_.
Result<void> Session::run(Pass& pass, engine::Engine& engine, const std::stop_token& stop) {
  const auto cancelled = [&] { return cancelled_.load(std::memory_order_relaxed) || stop.stop_requested(); };
  if (cancelled()) return fail(ErrorCode::kCancelled, "the request was cancelled");
  host_.loop.post([self = shared_from_this(), at = host_.surroundings.now()] { self->on_pass_begun(at); });
  const bool ends_model = pass.layers.end == layers_;
  const bool wants_logits = ends_model && (pass.phase == Phase::kDecode || pass.last_of_prefill);
  if (!ends_model) pass.hidden_out.resize(std::size_t{pass.chunk.tokens} * engine.shape().embedding_width);
  const bool step = pass.phase == Phase::kDecode;
  if (wants_logits) pass.logits.resize(std::size_t{step ? pass.chunk.tokens : 1} * engine.shape().vocabulary_size);

  const auto wanted = step ? engine::WantedLogits::kAll : engine::WantedLogits::kLast;
  const engine::BatchSpan span{.sequence = &workspace_->sequence(),
                               .first_position = pass.chunk.first_position,
                               .token_count = pass.chunk.tokens,
                               .logits = wants_logits ? wanted : engine::WantedLogits::kNone,
                               .rows = step ? engine::SpanRows::kAsSteps : engine::SpanRows::kTogether};
  engine::Batch batch{.layers = pass.layers, .spans = {&span, 1}, .tokens = {}, .hidden = pass.hidden_in};
  if (pass.layers.begin == 0) {
    batch.tokens = step ? std::span<const Token>(pass.tokens)
                        : std::span<const Token>(prompt_).subspan(pass.chunk.first_position, pass.chunk.tokens);
  }
  Watcher watcher([&](std::uint32_t layer) {
    if (cancelled()) return engine::LayerObserver::Next::kStop;
    if (pass.phase == Phase::kPrefill) {
      host_.loop.post(
          [self = shared_from_this(), chunk = pass.chunk, layer, leaving = copy_what_leaves(pass, layer),
           at = host_.surroundings.now()]() mutable { self->on_layer_done(chunk, layer, std::move(leaving), at); });
    }
    return engine::LayerObserver::Next::kContinue;
  });
  auto result = engine.forward(batch, {.hidden = pass.hidden_out, .logits = pass.logits}, &watcher);
  pass.emulation = engine.emulation_report();
  engine.reset_emulation_report();
  return result;
}

// On the executor's thread: the next chunk's pass runs over a state, and moves or overwrites the rows of a layer that
// keeps a window. Nothing follows the last.
Result<Session::Leaving> Session::copy_what_leaves(const Pass& pass, std::uint32_t layer) const {
  Leaving leaving;
  const bool leaves = plan::stage_with(open_.plan.decode, layer)->node != self_;
  if (workspace_->states().layer_keeps_state(layer) && (leaves || may_resume_alone())) {
    leaving.state = TRY(workspace_->states().copy(layer));
  }
  if (leaves && !pass.last_of_prefill && host_.executor.engine().keeps_window(layer)) {
    leaving.rows = TRY(workspace_->copy_rows(layer, pass.chunk.first_position, pass.chunk.tokens, open_.codec));
  }
  return leaving;
}

// Only now does it count as computing: a pass that waits behind others' in the executor's queue is not stalled.
void Session::on_pass_begun(TimePoint at) {
  computing_ = true;
  last_layer_done_ = at;
  report_progress();
}

void Session::on_layer_done(Chunk chunk, std::uint32_t layer, Result<Leaving> leaving, TimePoint at) {
  if (ended_) return;
  if (!leaving) return fail_with(leaving.error());
  ++work_counter_;
  slowest_layer_ = std::max(slowest_layer_, at - last_layer_done_);
  last_layer_done_ = at;
  times_.last_prefill_compute = std::max(times_.last_prefill_compute.value_or(at), at);
  const plan::NodeIndex to = plan::stage_with(open_.plan.decode, layer)->node;
  if (to != self_) {
    send_kept(chunk, layer, std::move(*leaving), to);
    if (ended_) return;
  } else if (!leaving->state.empty()) {
    workspace_->states().keep(layer, chunk.end_position(), std::move(leaving->state));
  }
  report_progress();
}

void Session::on_pass_done(std::unique_ptr<Pass> pass, const Result<void>& result) {
  --in_flight_;
  computing_ = false;
  if (ended_) return release_cells();
  if (!result) return fail_with(result.error());
  const bool prefill = pass->phase == Phase::kPrefill;
  if (pass->emulation) {
    engine::EmulationReport& report = prefill ? times_.prefill_emulation : times_.decode_emulation;
    report.emulated += pass->emulation->emulated;
    report.overrun += pass->emulation->overrun;
  }
  if (!prefill) ++work_counter_;
  if (const plan::Stage* next = plan::stage_after(stages(pass->phase), self_)) {
    ++unacknowledged_hidden_;
    send_hidden(*pass, next->node);
  } else if (!pass->logits.empty()) {
    if (self_ == plan::kCoordinator) {
      logits_arrived(prefill ? pass->chunk.end_position() - 1 : pass->chunk.first_position, pass->logits);
    } else {
      send_logits(*pass);
    }
  }
  if (ended_) return;
  if (prefill) {
    ++chunks_done_;
    report_prefilled();
    if (chunks_done_ == chunks_.size()) finish_prefill();
  }
  pump();
}

}  // namespace baton::node
