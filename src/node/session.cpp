#include "node/session.h"

#include <algorithm>
#include <format>

#include "base/log.h"
#include "base/random.h"

namespace baton::node {

namespace {

// One pass computes while the next already waits in the executor's queue, so that the device never idles between them.
constexpr std::size_t kPassesInFlight = 2;

// A node that does not take a new connection for so long is dead: going on without it costs less than waiting.
constexpr auto kReconnectTimeout = std::chrono::seconds(2);

// Cells are not held for a peer that opens a transfer and then never sends its prompt.
constexpr auto kPromptTimeout = std::chrono::seconds(10);

Bytes to_bytes(std::span<const float> values, handoff::DType dtype) {
  Bytes bytes(handoff::encoded_size(dtype, values.size()));
  // Cannot fail: the target was made to fit, and every width of hidden states suits f32, f16 and bf16.
  (void)handoff::convert(handoff::DType::kF32, std::as_bytes(values), dtype, bytes);
  return bytes;
}

Result<std::vector<float>> to_floats(ByteSpan bytes, handoff::DType dtype, std::size_t values) {
  std::vector<float> floats(values);
  TRY(handoff::convert(dtype, bytes, handoff::DType::kF32, std::as_writable_bytes(std::span(floats))));
  return floats;
}

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

std::shared_ptr<Session> Session::create(SessionHost& host, handoff::Open open, plan::NodeIndex self,
                                         std::shared_ptr<Workspace> workspace, SessionObserver* observer) {
  return std::shared_ptr<Session>(new Session(host, std::move(open), self, std::move(workspace), observer));
}

Session::Session(SessionHost& host, handoff::Open open, plan::NodeIndex self, std::shared_ptr<Workspace> workspace,
                 SessionObserver* observer)
    : host_(host),
      open_(std::move(open)),
      self_(self),
      layers_(host.widths.layers()),
      workspace_(std::move(workspace)),
      observer_(observer),
      next_position_(open_.prompt_tokens),
      lease_(host.loop) {}

const plan::Stages& Session::stages(Phase phase) const {
  return phase == Phase::kPrefill ? open_.plan.prefill : open_.plan.decode;
}

const plan::Stage* Session::stage(Phase phase) const { return plan::stage_of(stages(phase), self_); }

// --- starting

void Session::begin(std::vector<Token> prompt) {
  begun_ = true;
  prompt_ = std::move(prompt);
  if (stage(Phase::kPrefill) != nullptr) {
    chunks_ = handoff::chunk_grid(open_.prefix_tokens, open_.prompt_tokens, open_.chunk_tokens);
  }
  if (self_ != plan::kCoordinator) {
    lease_.start(std::chrono::milliseconds(open_.lease_lifetime_ms),
                 [this] { fail_with({ErrorCode::kTimeout, "the request's lease has run out", {}}); });
  }
  open_incoming();
  if (chunks_.empty()) finish_prefill();
  pump();
}

void Session::open_incoming() {
  const auto nodes = static_cast<plan::NodeIndex>(open_.plan.nodes.size());
  for (plan::NodeIndex from = 0; from < nodes; ++from) {
    if (from == self_ || handoff::transfer_need(open_.plan, from, self_) == handoff::Need::kNone) continue;
    handoff::Open open = open_;
    open.sender = from;
    open.receiver = self_;
    handoff::TransferId id;
    fill_random(id.bytes);
    auto machine = handoff::Receiver::create(id, std::move(open), prompt_, host_.widths,
                                             {.window_bytes = 64 << 10, .reconnect = kReconnectTimeout}, now());
    if (!machine) return fail_with(machine.error());
    incoming_[from] = host_.exchange.open(shared_from_this(), open_.plan.nodes[from], std::move(*machine));
  }
  if (incoming_.empty()) times_.accepted = now();
}

void Session::serve(const std::shared_ptr<OutgoingTransfer>& transfer) {
  const plan::NodeIndex to = transfer->machine.open().receiver;
  if (ended_ || outgoing_[to].lock()) {
    transfer->machine.refuse(
        {ErrorCode::kRefused, ended_ ? "the request is over" : "the transfer is already open", {}});
    return;
  }
  outgoing_[to] = transfer;
  const bool emulated = host_.executor.engine().emulated();
  transfer->machine.accept({.prefix_tokens = open_.prefix_tokens,
                            .predicted_chunk_us = 0,
                            .predicted_step_us = 0,
                            .pace = emulated ? handoff::Pace::kEmulated : handoff::Pace::kReal});
  const auto slices = std::exchange(unclaimed_[to], {});
  for (const auto& slice : slices) {
    if (!ended_) offer(*transfer, slice);
  }
  if (ended_) return;
  if (!begun_ && self_ != plan::kCoordinator) {
    lease_.start(Duration(kPromptTimeout), [this] { fail_with({ErrorCode::kTimeout, "the prompt did not come", {}}); });
  }
  if (begun_ && chunks_done_ == chunks_.size()) finish_prefill_of(*transfer);
  report_progress();
}

// --- computing

bool Session::has_input(const plan::Stage& stage, std::uint32_t position) const {
  return stage.layers.begin == 0 || hidden_inbox_.contains(position);
}

bool Session::prefill_complete(plan::NodeIndex from) const {
  const auto found = incoming_.find(from);
  if (found == incoming_.end()) return true;
  const auto transfer = found->second.lock();
  return !transfer || transfer->machine.prefill_complete();
}

bool Session::decode_ready() const {
  return chunks_done_ == chunks_.size() &&
         std::ranges::all_of(incoming_, [&](const auto& entry) { return prefill_complete(entry.first); });
}

void Session::pump() {
  if (!begun_ || ended_) return;
  while (next_chunk_ < chunks_.size() && in_flight_ < kPassesInFlight) {
    const plan::Stage& here = *stage(Phase::kPrefill);
    const handoff::Chunk chunk = chunks_[next_chunk_];
    if (!has_input(here, chunk.first_position)) break;
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
    pass->chunk = {next_position_++, 1};
    if (from_tokens) {
      pass->token = steps_.front().second;
      steps_.pop_front();
    }
    submit(std::move(pass));
  }
  report_progress();
}

void Session::submit(std::unique_ptr<Pass> pass) {
  if (pass->layers.begin > 0) {
    const auto input = hidden_inbox_.find(pass->chunk.first_position);
    pass->hidden_in = std::move(input->second);
    hidden_inbox_.erase(input);
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
  if (!submitted) fail_with(submitted.error());
}

// On the executor's thread: touches nothing of the session but what never changes, and cancelled_.
Result<void> Session::run(Pass& pass, engine::Engine& engine, const std::stop_token& stop) {
  const auto cancelled = [&] { return cancelled_.load(std::memory_order_relaxed) || stop.stop_requested(); };
  if (cancelled()) return fail(ErrorCode::kCancelled, "the request was cancelled");
  host_.loop.post([self = shared_from_this(), at = now()] { self->on_pass_begun(at); });
  const bool ends_model = pass.layers.end == layers_;
  const bool wants_logits = ends_model && (pass.phase == Phase::kDecode || pass.last_of_prefill);
  if (!ends_model) pass.hidden_out.resize(std::size_t{pass.chunk.tokens} * engine.shape().embedding_width);
  if (wants_logits) pass.logits.resize(engine.shape().vocabulary_size);

  const engine::BatchSpan span{&workspace_->sequence(), pass.chunk.first_position, pass.chunk.tokens,
                               wants_logits ? engine::WantedLogits::kLast : engine::WantedLogits::kNone};
  engine::Batch batch{.layers = pass.layers, .spans = {&span, 1}, .tokens = {}, .hidden = pass.hidden_in};
  if (pass.layers.begin == 0) {
    batch.tokens = pass.phase == Phase::kDecode
                       ? std::span<const Token>(&pass.token, 1)
                       : std::span<const Token>(prompt_).subspan(pass.chunk.first_position, pass.chunk.tokens);
  }
  Watcher watcher([&](std::uint32_t layer) {
    if (cancelled()) return engine::LayerObserver::Next::kStop;
    if (pass.phase == Phase::kPrefill) {
      host_.loop.post([self = shared_from_this(), phase = pass.phase, chunk = pass.chunk, layer, at = now()] {
        self->on_layer_done(phase, chunk, layer, at);
      });
    }
    return engine::LayerObserver::Next::kContinue;
  });
  auto result = engine.forward(batch, {.hidden = pass.hidden_out, .logits = pass.logits}, &watcher);
  pass.emulation = engine.emulation_report();
  engine.reset_emulation_report();
  return result;
}

// Only now does it count as computing: a pass that waits behind others' in the executor's queue is not stalled.
void Session::on_pass_begun(TimePoint at) {
  computing_ = true;
  last_layer_done_ = at;
  report_progress();
}

void Session::on_layer_done(Phase phase, handoff::Chunk chunk, std::uint32_t layer, TimePoint at) {
  if (ended_) return;
  ++work_counter_;
  slowest_layer_ = std::max(slowest_layer_, at - last_layer_done_);
  last_layer_done_ = at;
  if (phase == Phase::kPrefill) {
    times_.last_prefill_compute = std::max(times_.last_prefill_compute.value_or(at), at);
    const plan::NodeIndex to = plan::stage_with(open_.plan.decode, layer)->node;
    if (to != self_) send_kv(chunk, layer, to);
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
    send_hidden(*pass, next->node);
  } else if (!pass->logits.empty()) {
    if (self_ == plan::kCoordinator) {
      logits_arrived(pass->chunk.end_position() - 1, pass->logits);
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

// --- sending

void Session::send_kv(handoff::Chunk chunk, std::uint32_t layer, plan::NodeIndex to) {
  const auto rows = workspace_->kv_rows(layer, chunk.first_position, chunk.tokens, open_.codec);
  if (!rows) return fail_with(rows.error());
  send(to, {{handoff::SliceKind::kKv, layer, chunk.first_position, chunk.tokens}, *rows});
}

void Session::send_hidden(const Pass& pass, plan::NodeIndex to) {
  const ByteSpan bytes = workspace_->keep(to_bytes(pass.hidden_out, open_.hidden));
  send(to, {{handoff::SliceKind::kHidden, pass.layers.end, pass.chunk.first_position, pass.chunk.tokens}, {bytes, {}}});
}

void Session::send_logits(const Pass& pass) {
  const ByteSpan bytes = workspace_->keep(to_bytes(pass.logits, handoff::DType::kF32));
  send(plan::kCoordinator, {{handoff::SliceKind::kLogits, layers_, pass.chunk.end_position() - 1, 1}, {bytes, {}}});
}

void Session::send(plan::NodeIndex to, const handoff::OfferedSlice& slice) {
  if (const auto transfer = outgoing_[to].lock()) {
    offer(*transfer, slice);
  } else {
    unclaimed_[to].push_back(slice);
  }
}

void Session::offer(OutgoingTransfer& transfer, const handoff::OfferedSlice& slice) {
  if (const auto offered = transfer.machine.offer(slice); !offered) return fail_with(offered.error());
  unacknowledged_[{transfer.machine.open().receiver, slice.key}] = slice.parts[0];
  Exchange::wake(transfer);
}

void Session::finish_prefill() {
  // A copy: a failure on the way clears the map.
  const auto transfers = outgoing_;
  for (const auto& [to, weak] : transfers) {
    const auto transfer = weak.lock();
    if (transfer && !ended_) finish_prefill_of(*transfer);
  }
}

void Session::finish_prefill_of(OutgoingTransfer& transfer) {
  const auto end = times_.last_prefill_compute.value_or(now());
  const auto late_ppm = static_cast<std::uint32_t>(std::min(times_.prefill_emulation.overrun_fraction() * 1e6, 1e9));
  if (const auto finished = transfer.machine.finish(end.time_since_epoch().count(), late_ppm); !finished)
    fail_with(finished.error());
  Exchange::wake(transfer);
}

void Session::report_progress() {
  using handoff::WorkState;
  const WorkState state = computing_ ? WorkState::kComputing : ended_ ? WorkState::kIdle : WorkState::kWaitingForInput;
  const auto predicted_us = std::chrono::duration_cast<std::chrono::microseconds>(slowest_layer_).count();
  for (const auto& [to, weak] : outgoing_) {
    if (const auto transfer = weak.lock()) {
      transfer->machine.progress(work_counter_, state,
                                 static_cast<std::uint32_t>(std::min<long long>(predicted_us, UINT32_MAX)));
    }
  }
}

// --- receiving

void Session::on_sender_event(OutgoingTransfer& transfer, const handoff::SenderEvent& event) {
  const plan::NodeIndex to = transfer.machine.open().receiver;
  if (std::holds_alternative<handoff::PromptArrived>(event)) {
    if (!begun_ && !ended_) begin(transfer.machine.prompt());
  } else if (const auto* step = std::get_if<handoff::StepRequested>(&event)) {
    steps_.emplace_back(step->position, step->token);
    pump();
  } else if (const auto* acknowledged = std::get_if<handoff::Acknowledged>(&event)) {
    if (const auto found = unacknowledged_.find({to, acknowledged->key}); found != unacknowledged_.end()) {
      if (workspace_) workspace_->release(found->second);
      unacknowledged_.erase(found);
    }
  } else if (const auto* over = std::get_if<handoff::SenderEnded>(&event)) {
    if (to != plan::kCoordinator) return;
    // The coordinator is done with this node, or lost to it; either way nobody needs more of it.
    if (over->reason == handoff::SenderEnded::Reason::kCommitted) {
      finishing_ = true;
      commit_complete();
    } else {
      stop(over->error);
    }
  }
}

void Session::on_receiver_event(IncomingTransfer& transfer, const handoff::ReceiverEvent& event) {
  if (const auto* accepted = std::get_if<handoff::AcceptedByPeer>(&event)) {
    if (accepted->accepted.pace == handoff::Pace::kEmulated) times_.peer_emulated = true;
    if (++accepted_ == incoming_.size()) times_.accepted = now();
  } else if (const auto* slice = std::get_if<handoff::SliceReady>(&event)) {
    on_slice(transfer, *slice);
  } else if (const auto* done = std::get_if<handoff::DoneReceived>(&event)) {
    times_.peer_overrun = std::max(times_.peer_overrun, done->done.late_ppm / 1e6);
    const auto end = transfer.machine.stats().last_compute_end;
    if (end) times_.last_prefill_compute = std::max(times_.last_prefill_compute.value_or(*end), *end);
  } else if (const auto* over = std::get_if<handoff::ReceiverEnded>(&event)) {
    ended_transfers_.push_back(transfer.machine.stats());
    if (over->reason == handoff::ReceiverEnded::Reason::kReleased) return;
    // A node that had accepted can only have failed, whatever it says now: one that was restarted knows of nothing.
    const ErrorCode code = transfer.machine.accepted() ? ErrorCode::kUnavailable : over->error.code;
    fail_with({code, over->error.to_string(), transfer.peer.name});
  }
}

void Session::on_unreachable(IncomingTransfer& transfer, const Error& error) {
  fail_with({error.code, error.message, transfer.peer.name + " at " + transfer.peer.address});
}

std::shared_ptr<const void> Session::keep_alive(ByteSpan payload) {
  return workspace_ ? workspace_->keep_alive(payload) : nullptr;
}

void Session::on_slice(IncomingTransfer& transfer, const handoff::SliceReady& slice) {
  if (ended_) return;
  Result<void> taken;
  switch (slice.key.kind) {
    case handoff::SliceKind::kKv: taken = take_kv(slice); break;
    case handoff::SliceKind::kHidden: taken = take_hidden(slice); break;
    case handoff::SliceKind::kLogits: break;  // below: what it starts must find it held
    default: taken = fail(ErrorCode::kProtocol, "a slice of a kind this node does not take");
  }
  if (!taken) return fail_with(taken.error());
  if (slice.key.kind == handoff::SliceKind::kLogits) {
    const auto logits = to_floats(slice.part(0), slice.dtypes[0], host_.widths.logits_values);
    transfer.machine.held(slice.key, now());
    if (!logits) return fail_with(logits.error());
    logits_arrived(slice.key.first_position, *logits);
  } else {
    transfer.machine.held(slice.key, now());
  }
  if (ended_) return;
  if (slice.key.kind == handoff::SliceKind::kKv) {
    if (decode_ready()) times_.kv_complete = now();
    report_prefilled();
  }
  commit_complete();
  pump();
}

Result<void> Session::take_kv(const handoff::SliceReady& slice) {
  return workspace_->write_kv(slice.key.layer, slice.key.first_position, slice.key.tokens, slice.dtypes[0],
                              slice.part(0), slice.part(1));
}

Result<void> Session::take_hidden(const handoff::SliceReady& slice) {
  const std::size_t values = std::size_t{slice.key.tokens} * host_.widths.hidden_values;
  hidden_inbox_[slice.key.first_position] = TRY(to_floats(slice.part(0), slice.dtypes[0], values));
  return {};
}

void Session::logits_arrived(std::uint32_t position, std::span<const float> logits) {
  logits_seen_ = true;
  if (observer_ != nullptr) observer_->on_logits(position, logits);
}

void Session::report_prefilled() {
  if (observer_ != nullptr) observer_->on_prefilled(current_salvage_position(), open_.prompt_tokens);
}

// --- ending

void Session::step(std::uint32_t position, Token token) {
  const plan::Stage& first = open_.plan.decode.front();
  if (first.node == self_) {
    steps_.emplace_back(position, token);
  } else {
    const auto transfer = incoming_[first.node].lock();
    if (!transfer) return fail_with({ErrorCode::kUnavailable, "the node that decodes is gone", {}});
    if (const auto asked = transfer->machine.step(position, token); !asked) return fail_with(asked.error());
    Exchange::wake(*transfer);
  }
  pump();
}

void Session::commit_complete() {
  const bool all_complete =
      std::ranges::all_of(incoming_, [&](const auto& entry) { return prefill_complete(entry.first); });
  for (const auto& [from, weak] : incoming_) {
    const auto transfer = weak.lock();
    if (!transfer || committed_.contains(from) || !transfer->machine.prefill_complete()) continue;
    const handoff::Flow& flow = transfer->machine.expected();
    const bool decodes = flow.decode_hidden || flow.decode_logits ||
                         (self_ == plan::kCoordinator && plan::stage_of(open_.plan.decode, from) != nullptr);
    // The coordinator keeps watching every node until the whole prefill is done.
    const bool needed = decodes || (self_ == plan::kCoordinator && !(all_complete && logits_seen_));
    if (needed && !finishing_) continue;
    committed_.insert(from);
    if (const auto committed = transfer->machine.commit(); !committed) return fail_with(committed.error());
    Exchange::wake(*transfer);
  }
}

void Session::finish() {
  finishing_ = true;
  commit_complete();
  for (const auto& [from, weak] : incoming_) {
    const auto transfer = weak.lock();
    if (!transfer || committed_.contains(from)) continue;
    transfer->machine.cancel({ErrorCode::kCancelled, "the request has ended", {}});
    Exchange::wake(*transfer);
  }
  ended_ = true;
  cancelled_ = true;
  observer_ = nullptr;
  release_cells();
}

void Session::stop(const Error& error) {
  if (ended_) return;
  ended_ = true;
  cancelled_ = true;
  observer_ = nullptr;
  lease_.cancel();
  unclaimed_.clear();
  for (const auto& [from, weak] : incoming_) {
    if (const auto transfer = weak.lock()) {
      transfer->machine.cancel(error);
      Exchange::wake(*transfer);
    }
  }
  for (const auto& [to, weak] : outgoing_) {
    if (const auto transfer = weak.lock()) {
      transfer->machine.fail(error);
      Exchange::wake(*transfer);
    }
  }
  outgoing_.clear();
  release_cells();
}

void Session::release_cells() {
  const bool sending = std::ranges::any_of(outgoing_, [](const auto& entry) { return !entry.second.expired(); });
  if (ended_ && in_flight_ == 0 && !sending) workspace_.reset();
}

void Session::fail_with(const Error& error) {
  if (ended_) return;
  log::debug("request {} ends: {}", open_.request.hex(), error.to_string());
  salvage_position_ = current_salvage_position();
  SessionObserver* observer = observer_;
  stop(error);
  if (observer != nullptr) observer->on_failed(error);
}

std::uint32_t Session::current_salvage_position() const {
  if (open_.plan.decode.size() != 1 || open_.plan.decode.front().node != self_) return 0;
  std::uint32_t position = open_.prompt_tokens;
  if (!chunks_.empty()) position = chunks_done_ == 0 ? open_.prefix_tokens : chunks_[chunks_done_ - 1].end_position();
  for (const plan::Stage& stage : open_.plan.prefill) {
    if (stage.node == self_) continue;
    const auto found = incoming_.find(stage.node);
    if (found == incoming_.end()) return open_.prefix_tokens;
    if (const auto transfer = found->second.lock()) position = std::min(position, transfer->machine.salvage_position());
  }
  return position;
}

std::vector<handoff::TransferStats> Session::transfer_stats() const {
  std::vector<handoff::TransferStats> stats = ended_transfers_;
  for (const auto& [from, weak] : incoming_) {
    const auto transfer = weak.lock();
    if (transfer && !transfer->machine.finished()) stats.push_back(transfer->machine.stats());
  }
  return stats;
}

}  // namespace baton::node
