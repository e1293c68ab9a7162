// What becomes of a request when a node of its plan fails: a text and a position in it are all there is to go on with,
// whatever the plan was, and whatever the next one is.
#include <algorithm>
#include <ranges>

#include "base/log.h"
#include "node/prefix_names.h"
#include "node/request.h"
#include "node/request_prefix.h"

namespace baton::node {

namespace {

enum class FaultOf { kThisNode, kOtherNode };
enum class ChosenBy { kPlanner, kAsker };

// What need not go wrong again by another plan. Anything else is the request's own fault, and would fail here too.
bool recoverable(ErrorCode code, FaultOf fault_of, ChosenBy chosen_by) {
  // A planner knows the others by what they last told: one that has another model by now was the wrong choice, and
  // nobody else's mistake.
  if (fault_of == FaultOf::kOtherNode && chosen_by == ChosenBy::kPlanner) return code != ErrorCode::kCancelled;
  switch (code) {
    // A node of another version, which speaks or knows something else.
    case ErrorCode::kUnsupported: return fault_of == FaultOf::kOtherNode;
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
    case ErrorCode::kNoCapacity:
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
    case ErrorCode::kProtocol: return true;
    default: return false;
  }
}

// Layers that this node has something to do with; empty where others do it all.
LayerRange layers_here(const plan::Plan& plan) {
  LayerRange here;
  for (const plan::Stages* stages : {&plan.prefill, &plan.decode}) {
    const plan::Stage* stage = plan::stage_of(*stages, plan::kCoordinator);
    if (stage == nullptr) continue;
    here = here.empty() ? stage->layers
                        : LayerRange{std::min(here.begin, stage->layers.begin), std::max(here.end, stage->layers.end)};
  }
  return here;
}

}  // namespace

void Request::on_failed(const Error& error) {
  if (ended_) return;
  const bool alone = session_->open().plan.nodes.size() == 1;
  const FaultOf fault_of = session_->failed_node() ? FaultOf::kOtherNode : FaultOf::kThisNode;
  const ChosenBy chosen_by = options_.replan ? ChosenBy::kPlanner : ChosenBy::kAsker;
  if (alone || !recoverable(error.code, fault_of, chosen_by)) {
    end(std::unexpected(error));
    return;
  }
  recover(error);
}

std::vector<Token> Request::text_to_go_on_with() const {
  return options_.determinism == handoff::Determinism::kDeterministic ? options_.prompt : sequence_;
}

std::uint32_t Request::prefix_for_going_on(std::uint32_t held_tokens) const {
  // The last chunk is computed again even where its K and V are all here: its logits are not.
  const auto last = static_cast<std::uint32_t>(text_to_go_on_with().size() - 1);
  return workspace_->states().last_border(std::min(held_tokens, last) / open_.chunk_tokens * open_.chunk_tokens);
}

void Request::recover(const Error& error) {
  const plan::Plan& plan = session_->open().plan;
  Recovery recovery{.error = error, .lost = {}, .plan = plan.to_string(), .replanned = {}};
  if (const auto node = session_->failed_node()) {
    recovery.lost = plan.nodes[*node];
    lost_.push_back(recovery.lost->fingerprint);
  }
  const plan::NodeRef& writer = plan.nodes[plan.decode.front().node];
  const std::uint32_t read_for_writer = session_->read_for_writer();
  if (read_for_writer > 0 && recovery.lost != writer) recovery.held_elsewhere = {writer.fingerprint, read_for_writer};
  recovery.prompt_tokens = prompt_size();
  recovery.text_tokens = static_cast<std::uint32_t>(text_to_go_on_with().size());
  recovery.salvaged_tokens = prefix_for_going_on(session_->salvage_position());
  recovery.progress_s = since_start(progress_at_);
  recovery.failed_s = since_start(host_.surroundings.now());
  take_over(*session_);
  speculator_.reset();
  session_.reset();
  // Only behind the passes that were under way can it be told what the cache still has.
  const auto has_it = std::make_shared<bool>(false);
  on_executor(
      [has_it, workspace = workspace_, position = recovery.salvaged_tokens](engine::Engine&) -> Result<void> {
        *has_it = workspace->can_continue_at(position);
        return {};
      },
      [this, has_it, recovery = std::move(recovery)]() mutable {
        if (!*has_it) recovery.salvaged_tokens = 0;
        choose_plan(std::move(recovery));
      });
}

void Request::on_executor(std::move_only_function<Result<void>(engine::Engine&)> work, net::Task then) {
  const auto submitted =
      host_.executor.submit([self = shared_from_this(), work = std::move(work), then = std::move(then)](
                                engine::Engine& engine, const std::stop_token& stop) mutable {
        auto done = stop.stop_requested() ? Result<void>(fail(ErrorCode::kCancelled, "the node is shutting down"))
                                          : work(engine);
        work = nullptr;
        Request& request = *self;
        request.host_.loop.post([self = std::move(self), done = std::move(done), then = std::move(then)]() mutable {
          if (self->ended_) return;
          if (done) {
            then();
          } else {
            self->end(std::unexpected(done.error()));
          }
        });
      });
  if (!submitted) end(std::unexpected(submitted.error()));
}

plan::Plan Request::plan_after(const Recovery& recovery) const {
  const plan::Plan alone = plan::Plan::single(host_.widths.layers());
  // A failure of this node's own tells nothing about which plan would do better.
  if (!options_.replan || !recovery.lost) return alone;
  auto chosen = options_.replan({.lost = lost_,
                                 .text = text_to_go_on_with(),
                                 .held_tokens = recovery.salvaged_tokens,
                                 .tokens_left = tokens_left(),
                                 .held_elsewhere = recovery.held_elsewhere});
  if (!chosen) return alone;
  const bool counts_on_lost = std::ranges::any_of(chosen->nodes | std::views::drop(1), [&](const plan::NodeRef& node) {
    return std::ranges::contains(lost_, node.fingerprint);
  });
  // So that every plan costs a node, and their number is bounded.
  if (!counts_on_lost && chosen->validate(host_.widths.layers())) return *std::move(chosen);
  log::warning("request {}: {} cannot be the next plan", open_.request.hex().substr(0, 12), chosen->to_string());
  return alone;
}

void Request::choose_plan(Recovery recovery) {
  recovery.replanned = plan_after(recovery);
  recovery.replanned.nodes.front() = open_.plan.nodes.front();
  if (!may_go_on_behind_a_prefix(recovery.replanned)) recovery.salvaged_tokens = 0;
  const LayerRange needed = layers_here(recovery.replanned);
  if (needed.empty() || host_.executor.engine().holds(needed)) return go_on(std::move(recovery));
  // Layers that other nodes were to compute.
  on_executor([needed](engine::Engine& engine) { return engine.ensure_layers(needed); },
              [this, recovery = std::move(recovery)]() mutable { go_on(std::move(recovery)); });
}

void Request::go_on(Recovery recovery) {
  const std::uint32_t held_tokens = recovery.salvaged_tokens;
  recoveries_.push_back(std::move(recovery));
  observer_.on_recovery(recoveries_.back());
  if (ended_) return;
  if (const auto restored = workspace_->states().restore(held_tokens); !restored) {
    return end(std::unexpected(restored.error()));
  }
  std::vector<Token> text = text_to_go_on_with();
  // Nodes that worked for the old plan may still be told that it is over: to them this is another request.
  host_.surroundings.fill_random(open_.request.bytes);
  host_.surroundings.fill_random(open_.decision.bytes);
  handoff::Open open = open_;
  open.plan = recoveries_.back().replanned;
  open.prompt_tokens = static_cast<std::uint32_t>(text.size());
  open.max_new_tokens = options_.max_new_tokens - static_cast<std::uint32_t>(text.size() - options_.prompt.size());
  if (does_all_elsewhere(open.plan)) {
    open.prefix_tokens = most_prefix_tokens(open);
  } else if (open.plan.nodes.size() > 1) {
    open.prefix_tokens = held_tokens;
  }
  if (open.prefix_tokens > 0) name_prefixes(open, text);
  if (may_go_on_behind_a_prefix(open.plan)) {
    const std::string held_loss = held_tokens > 0 ? origin_.loss : "";
    origin_ = origin_of(open);
    if (!held_loss.empty()) origin_.loss = held_loss;
  } else {
    origin_ = {};
  }
  workspace_->set_held({.tokens = held_tokens, .exact_tokens = 0});
  computed_tokens_ = 0;
  begin_session(std::move(open), std::move(text));
}

}  // namespace baton::node
