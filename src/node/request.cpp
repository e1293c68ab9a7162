#include "node/request.h"

#include <algorithm>
#include <format>
#include <ranges>

#include "base/log.h"
#include "node/draft_proposer.h"
#include "node/lease.h"
#include "node/lookup_proposer.h"
#include "node/prefix_names.h"
#include "node/remote_proposer.h"
#include "node/request_prefix.h"

namespace baton::node {

namespace {

constexpr auto kLeaseLifetime = std::chrono::hours(1);

Result<void> check(const RequestOptions& options, std::string_view own_fingerprint, std::uint32_t layers,
                   std::uint32_t vocabulary) {
  const auto wrong = [](std::string why) { return fail(ErrorCode::kInvalidArgument, std::move(why)); };
  if (options.prompt.empty()) return wrong("the prompt has no tokens");
  if (options.prompt.size() > handoff::kMaxPromptTokens) return wrong("the prompt is too long");
  if (options.max_new_tokens == 0) return wrong("a request generates at least one token");
  if (options.chunk_tokens == 0 || options.chunk_tokens > handoff::kMaxChunkTokens)
    return wrong("the chunk size is out of range");
  for (const Token token : options.prompt) {
    if (token < 0 || static_cast<std::uint32_t>(token) >= vocabulary) {
      return wrong(std::format("token {} is not in the vocabulary of {} tokens", token, vocabulary));
    }
  }
  for (std::size_t i = 1; i < options.plan.nodes.size(); ++i) {
    if (options.plan.nodes[i].fingerprint == own_fingerprint) {
      return wrong(std::format("the plan's node '{}' has this machine's own fingerprint", options.plan.nodes[i].name));
    }
  }
  return options.plan.validate(layers);
}

// Where little is left of a prompt, a coarse grid would make a node compute much that another holds. Below this many
// tokens a chunk takes as long as one of so many.
constexpr std::uint32_t kLeastChunkTokens = 32;

std::uint32_t chunk_for_rest(std::uint32_t chunk_tokens, std::uint32_t rest_tokens) {
  while (chunk_tokens % 2 == 0 && chunk_tokens / 2 >= std::max(kLeastChunkTokens, rest_tokens)) chunk_tokens /= 2;
  return chunk_tokens;
}

}  // namespace

Result<std::shared_ptr<Request>> Request::start(SessionHost& host, handoff::Open open, RequestOptions options,
                                                RequestObserver& observer) {
  TRY(check(options, open.plan.nodes.front().fingerprint, host.widths.layers(), host.widths.logits_values));
  auto sampler = TRY(engine::Sampler::create(options.sampler));
  auto request = std::shared_ptr<Request>(new Request(host, std::move(options), std::move(sampler), observer));
  const RequestOptions& chosen = request->options_;
  const auto& fill_random = host.surroundings.fill_random;
  fill_random(open.request.bytes);
  fill_random(open.decision.bytes);
  open.lease_lifetime_ms = static_cast<std::uint32_t>(std::chrono::milliseconds(kLeaseLifetime).count());
  open.label = chosen.label;
  const plan::NodeRef self = open.plan.nodes.front();
  open.plan = chosen.plan;
  open.plan.nodes.front() = self;
  open.chunk_tokens = chosen.chunk_tokens;
  open.max_new_tokens = chosen.max_new_tokens;
  open.codec = chosen.codec;
  open.hidden = chosen.hidden;
  open.determinism = chosen.determinism;
  request->open_ = open;
  TRY(request->take_workspace(open));
  request->begin_session(std::move(open), chosen.prompt);
  return request;
}

Request::Request(SessionHost& host, RequestOptions options, engine::Sampler sampler, RequestObserver& observer)
    : host_(host),
      use_of_host_(host.use),
      options_(std::move(options)),
      sampler_(std::move(sampler)),
      observer_(observer),
      sequence_(options_.prompt),
      progress_at_(host.surroundings.now()),
      emulated_(host.executor.engine().emulated()),
      started_(progress_at_) {}

Result<void> Request::take_workspace(handoff::Open& open) {
  const std::uint32_t tokens = prompt_size() + options_.max_new_tokens;
  const auto cache = host_.prefix_cache.lock();
  // Even where this node computes nothing by plan, its cells are what makes it able to go on alone.
  if (cache == nullptr) {
    workspace_ = std::make_shared<Workspace>(host_.executor.engine());
    return workspace_->reserve(tokens);
  }
  if (!may_go_on_behind_a_prefix(open.plan)) {
    workspace_ = TRY(cache->reserve(tokens));
    if (does_all_elsewhere(open.plan)) hope_for_prefix(open);
    return {};
  }
  PrefixNeed need = prefix_need(open, tokens, {0, host_.widths.layers()});
  origin_ = need.origin;
  const bool flows = open.plan.nodes.size() > 1;
  if (flows && !need.exactly) {
    open.chunk_tokens = chunk_for_rest(open.chunk_tokens, prompt_size() - cache->common_tokens(need, options_.prompt));
    need.grid = open.chunk_tokens;
  }
  workspace_ = TRY(cache->take(need, options_.prompt));
  cached_tokens_ = workspace_->held().tokens;
  if (cached_tokens_ == 0) open.chunk_tokens = options_.chunk_tokens;
  if (!flows || cached_tokens_ == 0) return {};
  open.prefix_tokens = cached_tokens_;
  name_prefixes(open, options_.prompt);
  return {};
}

void Request::hope_for_prefix(handoff::Open& open) const {
  open.prompt_tokens = prompt_size();
  if (options_.kept_elsewhere && options_.determinism == handoff::Determinism::kFast) {
    const std::uint32_t kept = std::min(*options_.kept_elsewhere, prompt_size() - 1);
    open.chunk_tokens = chunk_for_rest(open.chunk_tokens, prompt_size() - kept);
  }
  open.prefix_tokens = most_prefix_tokens(open);
  if (open.prefix_tokens > 0) name_prefixes(open, options_.prompt);
}

void Request::leave_workspace() {
  const auto workspace = std::move(workspace_);
  const auto cache = host_.prefix_cache.lock();
  if (workspace == nullptr || cache == nullptr || origin_.shape.empty()) return;
  std::uint32_t computed = computed_tokens_;
  if (computed == 0 && session_) computed = session_->held_position();
  const std::uint32_t in_prompt = std::min(computed, prompt_size());
  const bool as_planned =
      recoveries_.empty() && session_ && !session_->was_cut() && session_->open().chunk_tokens == options_.chunk_tokens;
  const HeldTokens held = workspace->held();
  KeptText text{.tokens = sequence_,
                .layers = {0, host_.widths.layers()},
                .origin = origin_,
                .exact_tokens = as_planned ? exact_tokens(held, in_prompt, options_.chunk_tokens)
                                           : std::min(held.exact_tokens, in_prompt)};
  text.tokens.resize(std::min<std::size_t>(computed, text.tokens.size()));
  cache->keep(workspace, std::move(text));
}

void Request::begin_session(handoff::Open open, std::vector<Token> prompt) {
  open.prompt_tokens = static_cast<std::uint32_t>(prompt.size());
  if (host_.lease_key) open.lease = lease_for(open, *host_.lease_key);
  stepped_.clear();
  begin_speculation(open.plan);
  session_ = Session::create(host_, std::move(open), plan::kCoordinator, workspace_, this);
  // From the loop, so that a session that fails at once does not do so inside start().
  host_.loop.post([self = shared_from_this(), session = session_, prompt = std::move(prompt)]() mutable {
    if (!self->ended_ && self->session_ == session) session->begin(std::move(prompt));
  });
}

void Request::begin_speculation(const plan::Plan& plan) {
  speculator_.reset();
  speculation_.why = why_not_speculate(options_.speculation, plan, host_.executor.engine());
  if (!speculation_.why.empty()) return;
  auto proposer = make_proposer();
  if (!proposer) {
    speculation_.why = proposer.error().message;
    return;
  }
  speculator_ = std::make_shared<Speculator>(std::move(*proposer));
  if (plan::stage_of(plan.prefill, plan::kCoordinator) == nullptr) speculator_->prepare();
}

Result<std::unique_ptr<Proposer>> Request::make_proposer() {
  const Speculation wanted = options_.speculation;
  const bool has_draft = options_.draft_on || host_.draft != nullptr;
  const bool drafts = wanted == Speculation::kDraft || (wanted == Speculation::kAuto && has_draft);
  if (!drafts) return std::make_unique<LookupProposer>(sequence_);
  if (!has_draft) return fail(ErrorCode::kInvalidArgument, "this node has no draft model");
  if (options_.draft_on) {
    return std::make_unique<RemoteProposer>(host_, open_, *options_.draft_on, sampler_.options(), sequence_,
                                            tokens_left());
  }
  const auto tokens = static_cast<std::uint32_t>(sequence_.size()) + tokens_left();
  auto text = TRY(engine::DraftText::create(*host_.draft, sampler_.options(), host_.widths.logits_values, tokens));
  return std::make_unique<DraftProposer>(host_.loop, host_.executor, host_.surroundings, std::move(text), sequence_);
}

void Request::on_prefilled(std::uint32_t tokens, std::uint32_t of_tokens) {
  progress_at_ = host_.surroundings.now();
  observer_.on_prefilled(tokens, of_tokens);
}

void Request::on_logits(std::uint32_t position, std::span<const float> logits) {
  const std::size_t index = position + 1;
  if (ended_ || index > sequence_.size()) return;
  // A recovered request walks over tokens that it has already given out.
  if (index < sequence_.size()) {
    session_->step(position + 1, std::span(sequence_).subspan(index, 1));
    return;
  }
  if (does_all_elsewhere(session_->open().plan)) note_kept_elsewhere();
  const double step_s = seconds(host_.surroundings.now() - step_began_);
  const std::size_t vocabulary = host_.widths.logits_values;
  const std::size_t rows = logits.size() / vocabulary;
  // Behind a wrong guess nothing counts: its row of logits says what comes instead, and the text goes on from there.
  for (std::size_t row = 0; row < rows; ++row) {
    const auto token = sample(logits.subspan(row * vocabulary, vocabulary));
    if (!token) return;
    const bool guessed = row + 1 < stepped_.size() && stepped_[row + 1] == *token;
    if (guessed && row + 1 < rows) continue;
    if (speculator_ && !stepped_.empty()) speculator_->passed(static_cast<std::uint32_t>(row + 1), step_s);
    break;
  }
  step();
}

void Request::note_kept_elsewhere() {
  if (recoveries_.empty()) {
    if (!first_token_) cached_tokens_ = std::min(session_->kept_elsewhere(), prompt_size() - 1);
  } else if (Recovery& recovery = recoveries_.back(); recovery.next_token_s == 0) {
    recovery.salvaged_tokens = std::min(session_->kept_elsewhere(), recovery.text_tokens - 1);
  }
}

Result<Token> Request::choose(std::span<const float> logits) {
  if (!options_.filter) return sampler_.sample(logits, sequence_.size(), sequence_);
  return sampler_.sample(logits, sequence_.size(), sequence_, TRY(options_.filter->allowed(tokens_left())));
}

std::optional<Token> Request::sample(std::span<const float> logits) {
  computed_tokens_ = static_cast<std::uint32_t>(sequence_.size());
  observer_.on_logits(logits);
  if (ended_) return std::nullopt;
  const auto token = choose(logits);
  if (!token) {
    session_->stop(token.error());
    end(std::unexpected(token.error()));
    return std::nullopt;
  }
  return take_token(*token) ? std::optional(*token) : std::nullopt;
}

bool Request::take_token(Token token) {
  last_token_ = progress_at_ = host_.surroundings.now();
  if (!first_token_) first_token_ = last_token_;
  for (Recovery& recovery : recoveries_) {
    if (recovery.next_token_s == 0) recovery.next_token_s = since_start(last_token_);
  }
  const bool end_token = std::ranges::find(options_.end_tokens, token) != options_.end_tokens.end();
  if (!end_token) {
    sequence_.push_back(token);
    if (speculator_) speculator_->push(token);
    if (options_.filter) options_.filter->push(token);
    observer_.on_token(token);
  }
  if (ended_) return false;
  if (!end_token && tokens_left() > 0) return true;
  session_->finish();
  take_over(*session_);
  end(report());
  return false;
}

void Request::step() {
  // The last token of all needs no guess.
  const std::uint32_t rows = std::min(tokens_left(), host_.executor.engine().options().max_chunk_tokens);
  if (!speculator_ || rows <= 1) return step_with({});
  // A step that fails ends the request, and with it the speculator that calls back.
  const auto speculator = speculator_;
  speculator->draft(rows - 1,
                    [weak = weak_from_this(), session = std::weak_ptr(session_)](std::span<const Token> draft) {
                      // A guess takes time, and much can happen meanwhile.
                      const auto self = weak.lock();
                      if (self && !self->ended_ && self->session_ == session.lock()) self->step_with(draft);
                    });
}

void Request::step_with(std::span<const Token> draft) {
  stepped_.assign(1, sequence_.back());
  stepped_.insert(stepped_.end(), draft.begin(), draft.end());
  step_began_ = host_.surroundings.now();
  session_->step(static_cast<std::uint32_t>(sequence_.size() - 1), stepped_);
}

void Request::cancel() {
  if (ended_) return;
  const Error error{ErrorCode::kCancelled, "cancelled", {}};
  if (session_ && computed_tokens_ == 0) computed_tokens_ = session_->held_position();
  if (session_) session_->stop(error);
  end(std::unexpected(error));
}

void Request::take_over(const Session& session) {
  const SessionTimes& times = session.times();
  if (!accepted_) accepted_ = times.accepted;
  if (first_token_ && !prefill_times_) prefill_times_ = times;
  if (times.peer_emulated) emulated_ = true;
  for (const auto& [from, stats] : session.transfer_stats()) {
    TransferSummary& summary = transfer_from_[session.open().plan.nodes[from].name];
    summary.slices += stats.slices;
    summary.payload_bytes += stats.payload_bytes;
    summary.transfer_s += seconds(stats.transfer);
    summary.connections += stats.connections;
  }
}

RequestReport Request::report() const {
  const SessionTimes& prefill = *prefill_times_;
  RequestReport report;
  report.tokens.assign(sequence_.begin() + static_cast<std::ptrdiff_t>(options_.prompt.size()), sequence_.end());
  report.cached_tokens = cached_tokens_;
  report.plan = session_->open().plan;
  report.recoveries = recoveries_;
  report.speculation = speculation_;
  if (speculator_) report.speculation = speculator_->report();
  RequestTimings& timings = report.timings;
  if (accepted_) timings.queue_s = since_start(*accepted_);
  if (prefill.last_prefill_compute) {
    timings.prefill_s = since_start(*prefill.last_prefill_compute);
    if (prefill.kv_complete)
      timings.exposed_transfer_s = std::max(0.0, seconds(*prefill.kv_complete - *prefill.last_prefill_compute));
  }
  if (first_token_) {
    timings.first_token_s = since_start(*first_token_);
    timings.decode_s = seconds(last_token_ - *first_token_);
  }
  timings.total_s = since_start(host_.surroundings.now());
  for (const auto& [peer, summary] : transfer_from_) {
    report.transfer.slices += summary.slices;
    report.transfer.payload_bytes += summary.payload_bytes;
    report.transfer.transfer_s += summary.transfer_s;
    report.transfer.connections += summary.connections;
  }
  report.transfer_from = transfer_from_;
  report.emulated = emulated_;
  report.prefill_overrun = std::max(prefill.prefill_emulation.overrun_fraction(), prefill.peer_overrun);
  report.decode_overrun = session_->times().decode_emulation.overrun_fraction();
  return report;
}

void Request::end(Result<RequestReport> report) {
  if (ended_) return;
  ended_ = true;
  speculator_.reset();
  // After a failure nobody knows what is in the cells.
  if (report || report.error().code == ErrorCode::kCancelled) leave_workspace();
  session_.reset();
  workspace_.reset();
  observer_.on_finished(std::move(report));
}

}  // namespace baton::node
