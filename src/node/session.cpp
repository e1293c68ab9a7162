#include "node/session.h"

#include <algorithm>

#include "base/log.h"
#include "node/prefix_names.h"
#include "node/request_prefix.h"

namespace baton::node {

namespace {

// A node that does not take a new connection for so long is dead: going on without it costs less than waiting.
constexpr auto kReconnectTimeout = std::chrono::seconds(2);

// Cells are not held for a peer that opens a transfer and then never sends its prompt.
constexpr auto kPromptTimeout = std::chrono::seconds(10);

}  // namespace

std::shared_ptr<Session> Session::create(SessionHost& host, handoff::Open open, plan::NodeIndex self,
                                         std::shared_ptr<Workspace> workspace, SessionObserver* observer) {
  return std::shared_ptr<Session>(new Session(host, std::move(open), self, std::move(workspace), observer));
}

Session::Session(SessionHost& host, handoff::Open open, plan::NodeIndex self, std::shared_ptr<Workspace> workspace,
                 SessionObserver* observer)
    : host_(host),
      use_of_host_(host.use),
      open_(std::move(open)),
      self_(self),
      layers_(host.widths.layers()),
      host_cache_(host.prefix_cache),
      held_(workspace->held()),
      unsent_chunk_tokens_(open_.determinism == handoff::Determinism::kDeterministic
                               ? open_.chunk_tokens
                               : host.executor.engine().options().max_chunk_tokens),
      workspace_(std::move(workspace)),
      observer_(observer),
      next_position_(open_.prompt_tokens),
      lease_(host.loop) {}

Session::~Session() { leave_cells(); }

const plan::Stages& Session::stages(Phase phase) const {
  return phase == Phase::kPrefill ? open_.plan.prefill : open_.plan.decode;
}

const plan::Stage* Session::stage(Phase phase) const { return plan::stage_of(stages(phase), self_); }

void Session::begin(std::vector<Token> prompt) {
  begun_ = true;
  begun_at_ = host_.surroundings.now();
  prompt_ = std::move(prompt);
  // A peer's cells were chosen by names, and will be found by the tokens.
  const auto named = self_ == plan::kCoordinator ? Result<void>() : check_prefixes(open_, prompt_);
  if (!named) {
    prompt_.clear();
    return fail_with(named.error());
  }
  chunks_ = own_chunks();
  if (!chunks_.empty()) last_border_ = chunks_.back().first_position;
  if (lease_end_) {
    // What is left of it: waiting for the prompt, or asking again, prolongs nothing.
    lease_.start(std::max(*lease_end_ - host_.surroundings.now(), Duration::zero()),
                 [this] { fail_with({ErrorCode::kTimeout, "the request's lease has run out", {}}); });
  }
  open_incoming();
  if (chunks_.empty()) finish_prefill();
  pump();
}

std::vector<Chunk> Session::own_chunks() const {
  if (stage(Phase::kPrefill) == nullptr) return {};
  const std::uint32_t prefix = std::max(open_.prefix_tokens, held_.tokens);
  std::vector<Chunk> chunks = chunk_grid(held_.tokens, prefix, unsent_chunk_tokens_);
  const std::vector<Chunk> rest = chunk_grid(prefix, open_.prompt_tokens, open_.chunk_tokens);
  chunks.insert(chunks.end(), rest.begin(), rest.end());
  return chunks;
}

void Session::open_incoming() {
  const auto nodes = static_cast<plan::NodeIndex>(open_.plan.nodes.size());
  for (plan::NodeIndex from = 0; from < nodes; ++from) {
    if (from == self_ || handoff::transfer_need(open_.plan, from, self_) == handoff::Need::kNone) continue;
    handoff::Open open = open_;
    open.sender = from;
    open.receiver = self_;
    handoff::TransferId id;
    host_.surroundings.fill_random(id.bytes);
    auto machine =
        handoff::Receiver::create(id, std::move(open), prompt_, host_.widths,
                                  {.window_bytes = 64 << 10, .reconnect = kReconnectTimeout}, host_.surroundings.now());
    if (!machine) return fail_with(machine.error());
    incoming_[from] = host_.exchange.open(shared_from_this(), open_.plan.nodes[from], std::move(*machine));
  }
  if (incoming_.empty()) times_.accepted = host_.surroundings.now();
}

Result<void> Session::check_serves(plan::NodeIndex to) const {
  if (ended_) return fail(ErrorCode::kRefused, "the request is over");
  const auto found = outgoing_.find(to);
  if (found == outgoing_.end() || found->second.expired()) return {};
  return fail(ErrorCode::kRefused, "the transfer is already open");
}

void Session::serve(const std::shared_ptr<OutgoingTransfer>& transfer) {
  const plan::NodeIndex to = transfer->machine.open().receiver;
  outgoing_[to] = transfer;
  const bool emulated = host_.executor.engine().emulated();
  transfer->machine.accept({.prefix_tokens = held_.tokens,
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

void Session::step(std::uint32_t position, std::span<const Token> tokens) {
  const plan::Stage& first = open_.plan.decode.front();
  if (first.node == self_) {
    if (open_.plan.decode.size() == 1) next_position_ = position;
    steps_.emplace_back(tokens.begin(), tokens.end());
  } else {
    const auto transfer = incoming_[first.node].lock();
    if (!transfer) return fail_with({ErrorCode::kUnavailable, "the node that decodes is gone", {}});
    if (const auto asked = transfer->machine.step(position, tokens.front()); !asked) return fail_with(asked.error());
    transfer->wake();
  }
  pump();
}

bool Session::prefill_complete(plan::NodeIndex from) const {
  const auto found = incoming_.find(from);
  if (found == incoming_.end()) return true;
  const auto transfer = found->second.lock();
  return !transfer || transfer->machine.prefill_complete();
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
    transfer->wake();
  }
}

void Session::finish() {
  finishing_ = true;
  commit_complete();
  for (const auto& [from, weak] : incoming_) {
    const auto transfer = weak.lock();
    if (!transfer || committed_.contains(from)) continue;
    transfer->machine.cancel({ErrorCode::kCancelled, "the request has ended", {}});
    transfer->wake();
  }
  ended_ = true;
  cancelled_ = true;
  observer_ = nullptr;
  release_cells();
}

void Session::stop(const Error& error) {
  if (ended_) return;
  salvage_position_ = least_position(&handoff::Receiver::salvage_position);
  read_for_writer_ = told_to_be_read();
  ended_ = true;
  cancelled_ = true;
  observer_ = nullptr;
  lease_.cancel();
  staged_hidden_.clear();
  for (const auto& [from, weak] : incoming_) {
    if (const auto transfer = weak.lock()) {
      transfer->machine.cancel(error);
      transfer->wake();
    }
  }
  for (const auto& [to, weak] : outgoing_) {
    if (const auto transfer = weak.lock()) {
      transfer->machine.fail(error);
      transfer->wake();
    }
  }
  // Nobody waits for them any more, and the workspace may serve a recovered request.
  for (const auto& [to, slices] : std::exchange(unclaimed_, {})) {
    for (const handoff::OfferedSlice& slice : slices) workspace_->release(slice.parts[0]);
  }
  for (const auto& [key, kept] : std::exchange(unacknowledged_, {})) workspace_->release(kept);
  outgoing_.clear();
  release_cells();
}

void Session::release_cells() {
  const bool sending = std::ranges::any_of(outgoing_, [](const auto& entry) { return !entry.second.expired(); });
  if (ended_ && in_flight_ == 0 && !sending) leave_cells();
}

void Session::leave_cells() {
  const auto workspace = std::move(workspace_);
  const auto cache = host_cache_.lock();
  if (workspace == nullptr || cache == nullptr || self_ == plan::kCoordinator) return;
  const plan::Stage* prefill = stage(Phase::kPrefill);
  const bool reads_first = prefill != nullptr && prefill->layers.begin == 0 && stage(Phase::kDecode) == nullptr;
  const plan::Stages& decode = open_.plan.decode;
  const bool writes_alone = decode.size() == 1 && decode.front().node == self_;
  KeptText text{.tokens = std::move(prompt_), .layers = {0, layers_}, .origin = {}};
  if (reads_first || does_all(open_.plan, self_)) {
    const std::uint32_t held = chunks_done_ == 0 ? held_.tokens : chunks_[chunks_done_ - 1].end_position();
    if (held > text.tokens.size()) return;
    const bool in_chunks = !cut_ && (held_.tokens >= open_.prefix_tokens || unsent_chunk_tokens_ == open_.chunk_tokens);
    text.layers = prefill->layers;
    text.origin.shape = shape_of_chunks(open_.chunk_tokens);
    text.exact_tokens = in_chunks ? exact_tokens(held_, held, open_.chunk_tokens) : held_.exact_tokens;
    text.tokens.resize(held);
  } else if (writes_alone) {
    text.origin = origin_of(open_);
    // No step is made before the whole prompt is here; without one, only what had come when the request ended.
    if (stepped_.empty()) text.tokens.resize(std::min<std::size_t>(salvage_position_, text.tokens.size()));
  } else {
    // Nobody checks the hidden states that a later stage was given, and who writes with others has not every layer.
    return;
  }
  text.tokens.insert(text.tokens.end(), stepped_.begin(), stepped_.end());
  cache->keep(workspace, std::move(text));
}

void Session::fail_with(const Error& error, std::optional<plan::NodeIndex> node) {
  if (ended_) return;
  failed_node_ = node;
  log::debug("request {} ends: {}", open_.request.hex(), error.to_string());
  SessionObserver* observer = observer_;
  stop(error);
  if (observer != nullptr) observer->on_failed(error);
}

// Of this node's own chunks and of the transfers.
std::uint32_t Session::least_position(PositionOf of_transfer) const {
  const bool decodes = open_.plan.decode.size() == 1 && open_.plan.decode.front().node == self_;
  const plan::Stage& reader = open_.plan.prefill.front();
  const bool reads_alone =
      self_ == plan::kCoordinator && open_.plan.prefill.size() == 1 && reader.node == plan::kCoordinator;
  // What this node neither computes nor is sent is elsewhere.
  if (!decodes && !reads_alone) return 0;
  if (!begun_) return held_.tokens;
  std::uint32_t position = open_.prompt_tokens;
  if (!chunks_.empty()) position = chunks_done_ == 0 ? held_.tokens : chunks_[chunks_done_ - 1].end_position();
  for (const plan::Stage& stage : open_.plan.prefill) {
    if (stage.node == self_) continue;
    const auto found = incoming_.find(stage.node);
    if (found == incoming_.end()) return open_.prefix_tokens;
    if (const auto transfer = found->second.lock()) position = std::min(position, (transfer->machine.*of_transfer)());
  }
  return position;
}

// The stages count the layers that they have computed; what the writer lacks of that is on its way.
std::uint32_t Session::told_to_be_read() const {
  const plan::Stages& decode = open_.plan.decode;
  if (self_ != plan::kCoordinator || decode.size() != 1 || decode.front().node == self_) return 0;
  std::uint64_t chunks = open_.prompt_tokens;
  for (const plan::Stage& stage : open_.plan.prefill) {
    std::uint64_t done = chunks_done_;
    if (stage.node != self_) {
      const auto found = incoming_.find(stage.node);
      const auto transfer = found == incoming_.end() ? nullptr : found->second.lock();
      done = transfer ? transfer->machine.peer_progress().counter / stage.layers.size() : 0;
    }
    chunks = std::min(chunks, done);
  }
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(chunks * open_.chunk_tokens, open_.prompt_tokens));
}

bool Session::may_resume_alone() const {
  const plan::Stages& decode = open_.plan.decode;
  return self_ == plan::kCoordinator && open_.plan.nodes.size() > 1 && decode.size() == 1 &&
         decode.front().node == self_;
}

std::map<plan::NodeIndex, handoff::TransferStats> Session::transfer_stats() const {
  std::map<plan::NodeIndex, handoff::TransferStats> stats = ended_transfers_;
  for (const auto& [from, weak] : incoming_) {
    if (const auto transfer = weak.lock()) stats.try_emplace(from, transfer->machine.stats());
  }
  return stats;
}

}  // namespace baton::node
