// A session's forward passes: what is submitted when, and what follows from each.
#include <algorithm>

#include "node/pass_cost.h"
#include "node/request_prefix.h"
#include "node/session.h"
#include "node/session_pass.h"

namespace baton::node {

namespace {

// One pass computes while the next already waits for the device, so that it never idles between them.
constexpr std::size_t kPassesInFlight = 2;

// So many chunks may be under way to a next stage that has not taken them in. Hidden states go out before K and V: more
// of them would use up all credit and let K and V wait until the next stage has caught up (four slices of the largest
// kind fill a receiver's staging).
constexpr std::size_t kChunksAhead = 4;

}  // namespace

bool Session::has_input(const plan::Stage& stage, std::uint32_t position) const {
  return stage.layers.begin == 0 || hidden_inbox_.contains(position);
}

bool Session::decode_ready() const {
  return chunks_done_ == chunks_.size() &&
         std::ranges::all_of(incoming_, [&](const auto& entry) { return prefill_complete(entry.first); });
}

// Nobody is sent what is read and written here, so nobody knows its chunks.
void Session::cut_next_chunk() {
  if (!does_all(open_.plan, self_) || open_.determinism == handoff::Determinism::kDeterministic) return;
  Chunk& next = chunks_[next_chunk_];
  const Chunk whole = next;
  next.tokens = host_.scheduler.chunk_now(whole.tokens);
  if (next.tokens == whole.tokens) return;
  cut_ = true;
  const Chunk rest{next.end_position(), whole.tokens - next.tokens};
  chunks_.insert(chunks_.begin() + static_cast<std::ptrdiff_t>(next_chunk_) + 1, rest);
}

void Session::pump() {
  if (!begun_ || ended_) return;
  while (next_chunk_ < chunks_.size() && !ended_ && in_flight_ < kPassesInFlight) {
    const plan::Stage& here = *stage(Phase::kPrefill);
    const std::uint32_t position = chunks_[next_chunk_].first_position;
    if (here.layers.end < layers_ && unacknowledged_hidden_ + in_flight_ >= kChunksAhead) break;
    if (keeps_too_much() || !has_input(here, position)) break;
    cut_next_chunk();
    const Chunk chunk = chunks_[next_chunk_];
    auto pass = std::make_shared<Pass>(shared_from_this(), Phase::kPrefill);
    pass->layers = here.layers;
    pass->prompt_came = begun_at_;
    pass->prompt_tokens = open_.prompt_tokens - held_.tokens;
    pass->chunk = chunk;
    pass->last_of_prefill = ++next_chunk_ == chunks_.size();
    if (pass->last_of_prefill && here.layers.end == layers_) pass->span.logits = engine::WantedLogits::kLast;
    if (here.layers.begin == 0) {
      const auto tokens = std::span<const Token>(prompt_).subspan(chunk.first_position, chunk.tokens);
      pass->tokens.assign(tokens.begin(), tokens.end());
    }
    submit(pass);
  }
  const plan::Stage* here = stage(Phase::kDecode);
  while (here != nullptr && !ended_ && in_flight_ < kPassesInFlight && decode_ready()) {
    const bool from_tokens = here->layers.begin == 0;
    if (from_tokens ? steps_.empty() : !has_input(*here, next_position_)) break;
    auto pass = std::make_shared<Pass>(shared_from_this(), Phase::kDecode);
    pass->layers = here->layers;
    pass->chunk = {next_position_, 1};
    if (from_tokens) {
      pass->tokens = std::move(steps_.front());
      pass->chunk.tokens = static_cast<std::uint32_t>(pass->tokens.size());
      steps_.pop_front();
    }
    if (here->layers.end == layers_) pass->span.logits = engine::WantedLogits::kAll;
    next_position_ += pass->chunk.tokens;
    submit(pass);
  }
  report_progress();
}

void Session::submit(const std::shared_ptr<Pass>& pass) {
  if (pass->layers.begin > 0) {
    const auto input = hidden_inbox_.find(pass->chunk.first_position);
    pass->hidden_in = std::move(input->second);
    hidden_inbox_bytes_ -= pass->hidden_in.size() * sizeof(float);
    hidden_inbox_.erase(input);
    take_staged_hidden();
    if (ended_) return;
  }
  ++in_flight_;
  pass->span.sequence = &workspace_->sequence();
  pass->span.first_position = pass->chunk.first_position;
  pass->span.token_count = pass->chunk.tokens;
  pass->piece = first_piece_cost(*pass);
  host_.scheduler.submit(pass);
}

// On the executor's thread: the next chunk's pass runs over a state, and moves or overwrites the rows of a layer that
// keeps a window. Nothing follows the last.
Result<Session::Leaving> Session::copy_what_leaves(const Pass& pass, std::uint32_t layer) const {
  Leaving leaving;
  const bool leaves = flows(pass.chunk) && plan::stage_with(open_.plan.decode, layer)->node != self_;
  // The next request may have another end of this prompt; the last border is where it can go on.
  const bool at_last_border = pass.chunk.end_position() == last_border_;
  if (workspace_->states().layer_keeps_state(layer) && (leaves || may_resume_alone() || at_last_border)) {
    leaving.state = TRY(workspace_->states().copy(layer));
    leaving.stays = at_last_border;
  }
  if (leaves && !pass.last_of_prefill && host_.executor.engine().keeps_window(layer)) {
    leaving.rows = TRY(workspace_->copy_rows(layer, pass.chunk.first_position, pass.chunk.tokens, open_.codec));
  }
  return leaving;
}

model::Cost Session::first_piece_cost(const Pass& pass) const {
  const engine::Engine& engine = host_.executor.engine();
  return pass.phase == Phase::kPrefill ? chunk_layer_cost(engine, pass.chunk, pass.layers.begin)
                                       : step_cost(engine, pass.chunk, pass.layers);
}

Duration Session::expected(Phase phase, const model::Cost& piece) const {
  const bool is_first = phase == Phase::kPrefill ? chunks_done_ == 0 : stepped_.empty();
  return pace(phase).expected(piece, is_first ? PassPace::Weights::kMayBeCold : PassPace::Weights::kInMemory);
}

// Only now does it count as computing: a pass that waits behind others' is not stalled.
void Session::on_pass_begun(Phase phase, const model::Cost& piece, TimePoint at) {
  computing_ = true;
  last_sign_ = at;
  expected_ = expected(phase, piece);
  report_progress();
}

void Session::on_layer_done(Chunk chunk, std::uint32_t layer, Result<Leaving> leaving, TimePoint at) {
  if (ended_) return;
  if (!leaving) return fail_with(leaving.error());
  ++work_counter_;
  const engine::Engine& engine = host_.executor.engine();
  pace(Phase::kPrefill).note(chunk_layer_cost(engine, chunk, layer), at - last_sign_);
  expected_ = expected(Phase::kPrefill, cost_behind_layer(engine, chunk, stage(Phase::kPrefill)->layers, layer));
  last_sign_ = at;
  times_.last_prefill_compute = std::max(times_.last_prefill_compute.value_or(at), at);
  const plan::NodeIndex to = plan::stage_with(open_.plan.decode, layer)->node;
  const bool sends = to != self_ && flows(chunk);
  if (!leaving->state.empty() && (!sends || leaving->stays)) {
    workspace_->states().keep(layer, chunk.end_position(), leaving->state);
  }
  if (sends) {
    send_kept(chunk, layer, std::move(*leaving), to);
    if (ended_) return;
  }
  report_progress();
}

void Session::on_pass_done(const Pass& pass, const Result<void>& result,
                           const std::optional<engine::EmulationReport>& emulation) {
  --in_flight_;
  computing_ = false;
  if (ended_) return release_cells();
  if (!result) return fail_with(result.error());
  const bool prefill = pass.phase == Phase::kPrefill;
  if (emulation) {
    engine::EmulationReport& report = prefill ? times_.prefill_emulation : times_.decode_emulation;
    report.emulated += emulation->emulated;
    report.overrun += emulation->overrun;
  }
  if (!prefill) {
    ++work_counter_;
    pace(Phase::kDecode).note(pass.piece, host_.surroundings.now() - last_sign_);
    stepped_.insert(stepped_.end(), pass.tokens.begin(), pass.tokens.end());
  }
  if (const plan::Stage* next = plan::stage_after(stages(pass.phase), self_)) {
    if (!prefill || flows(pass.chunk)) {
      ++unacknowledged_hidden_;
      send_hidden(pass, next->node);
    }
  } else if (!pass.logits.empty()) {
    if (self_ == plan::kCoordinator) {
      logits_arrived(prefill ? pass.chunk.end_position() - 1 : pass.chunk.first_position, pass.logits);
    } else {
      send_logits(pass);
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
