#include "node/request.h"

#include <algorithm>
#include <format>

#include "base/log.h"
#include "base/random.h"

namespace baton::node {

namespace {

constexpr std::size_t kLeaseBytes = 32;
constexpr auto kLeaseLifetime = std::chrono::hours(1);

// What another node did wrong or could not do. Anything else is the request's own fault, and would fail here too.
bool recoverable(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUnavailable:
    case ErrorCode::kTimeout:
    case ErrorCode::kNoCapacity:
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
    case ErrorCode::kProtocol: return true;
    default: return false;
  }
}

Result<void> check(const RequestOptions& options, std::uint32_t layers, std::uint32_t vocabulary) {
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
  return options.plan.validate(layers);
}

}  // namespace

Result<std::shared_ptr<Request>> Request::start(SessionHost& host, handoff::Open open, RequestOptions options,
                                                RequestObserver& observer) {
  TRY(check(options, host.widths.layers(), host.widths.logits_values));
  auto sampler = TRY(engine::Sampler::create(options.sampler));
  auto request = std::shared_ptr<Request>(new Request(host, std::move(options), std::move(sampler), observer));
  const RequestOptions& chosen = request->options_;
  // Even where this node computes nothing by plan, its cells are what makes it able to go on alone.
  request->workspace_ = std::make_shared<Workspace>(host.executor.engine());
  TRY(request->workspace_->reserve(request->prompt_size() + chosen.max_new_tokens));
  fill_random(open.request.bytes);
  fill_random(open.decision.bytes);
  open.lease.resize(kLeaseBytes);
  fill_random(open.lease);
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
  request->begin_session(std::move(open), chosen.prompt);
  return request;
}

Request::Request(SessionHost& host, RequestOptions options, engine::Sampler sampler, RequestObserver& observer)
    : host_(host),
      options_(std::move(options)),
      sampler_(std::move(sampler)),
      observer_(observer),
      sequence_(options_.prompt),
      started_(now()) {}

void Request::begin_session(handoff::Open open, std::vector<Token> prompt) {
  open.prompt_tokens = static_cast<std::uint32_t>(prompt.size());
  session_ = Session::create(host_, std::move(open), plan::kCoordinator, workspace_, this);
  // From the loop, so that a session that fails at once does not do so inside start().
  host_.loop.post([self = shared_from_this(), session = session_, prompt = std::move(prompt)]() mutable {
    if (!self->ended_ && self->session_ == session) session->begin(std::move(prompt));
  });
}

void Request::on_prefilled(std::uint32_t tokens, std::uint32_t of_tokens) { observer_.on_prefilled(tokens, of_tokens); }

void Request::on_logits(std::uint32_t position, std::span<const float> logits) {
  const std::size_t index = position + 1;
  if (ended_ || index > sequence_.size()) return;
  // A recovered request walks over tokens that it has already given out.
  if (index < sequence_.size()) {
    session_->step(position + 1, sequence_[index]);
    return;
  }
  observer_.on_logits(logits);
  if (ended_) return;
  const auto token = sampler_.sample(logits, index, sequence_);
  if (!token) {
    session_->stop(token.error());
    end(std::unexpected(token.error()));
    return;
  }
  take_token(*token);
}

void Request::take_token(Token token) {
  last_token_ = now();
  if (!first_token_) first_token_ = last_token_;
  const bool end_token = std::ranges::find(options_.end_tokens, token) != options_.end_tokens.end();
  if (!end_token) {
    sequence_.push_back(token);
    observer_.on_token(token);
  }
  if (ended_) return;
  const auto generated = sequence_.size() - options_.prompt.size();
  if (end_token || generated == options_.max_new_tokens) {
    session_->finish();
    add_transfers(*session_);
    end(report());
    return;
  }
  session_->step(static_cast<std::uint32_t>(sequence_.size() - 1), token);
}

void Request::on_failed(const Error& error) {
  if (ended_) return;
  const bool alone = session_->open().plan.nodes.size() == 1;
  if (alone || !recoverable(error.code)) {
    end(std::unexpected(error));
    return;
  }
  recover(error);
}

void Request::recover(const Error& error) {
  ++recoveries_;
  observer_.on_recovery(error);
  if (ended_) return;
  const std::uint32_t held = session_->salvage_position();
  add_transfers(*session_);
  session_.reset();
  // Layers that other nodes were to compute may not be loaded here yet. And only behind the passes that were under way
  // can it be told what the cache still has.
  const auto submitted =
      host_.executor.submit([self = shared_from_this(), workspace = workspace_, prefix = prefix_for_going_on(held)](
                                engine::Engine& engine, const std::stop_token& stop) mutable {
        const LayerRange all{0, self->host_.widths.layers()};
        auto loaded = stop.stop_requested() ? Result<void>(fail(ErrorCode::kCancelled, "the node is shutting down"))
                                            : engine.ensure_layers(all);
        if (!workspace->can_continue_at(prefix)) prefix = 0;
        workspace.reset();
        Request& request = *self;
        request.host_.loop.post([self = std::move(self), prefix, loaded = std::move(loaded)] {
          if (self->ended_) return;
          if (loaded) {
            self->go_on_alone(prefix);
          } else {
            self->end(std::unexpected(loaded.error()));
          }
        });
      });
  if (!submitted) end(std::unexpected(submitted.error()));
}

std::vector<Token> Request::text_to_go_on_with() const {
  return options_.determinism == handoff::Determinism::kDeterministic ? options_.prompt : sequence_;
}

std::uint32_t Request::prefix_for_going_on(std::uint32_t held_tokens) const {
  // The last chunk is computed again even where its K and V are all here: its logits are not.
  const auto last = static_cast<std::uint32_t>(text_to_go_on_with().size() - 1);
  return workspace_->states().last_border(std::min(held_tokens, last) / open_.chunk_tokens * open_.chunk_tokens);
}

void Request::go_on_alone(std::uint32_t prefix_tokens) {
  handoff::Open open = open_;
  const plan::NodeRef self = open.plan.nodes.front();
  open.plan = plan::Plan::single(host_.widths.layers());
  open.plan.nodes.front() = self;
  if (const auto restored = workspace_->states().restore(prefix_tokens); !restored) {
    return end(std::unexpected(restored.error()));
  }
  open.prefix_tokens = prefix_tokens;
  salvaged_tokens_ = prefix_tokens;
  begin_session(std::move(open), text_to_go_on_with());
}

void Request::cancel() {
  if (ended_) return;
  const Error error{ErrorCode::kCancelled, "cancelled", {}};
  if (session_) session_->stop(error);
  end(std::unexpected(error));
}

void Request::add_transfers(const Session& session) {
  for (const handoff::TransferStats& stats : session.transfer_stats()) {
    transfer_.slices += stats.slices;
    transfer_.payload_bytes += stats.payload_bytes;
    transfer_.transfer_s += seconds(stats.transfer);
    transfer_.connections += stats.connections;
  }
}

RequestReport Request::report() const {
  const SessionTimes& times = session_->times();
  const auto since_start = [&](TimePoint at) { return seconds(at - started_); };
  RequestReport report;
  report.tokens.assign(sequence_.begin() + static_cast<std::ptrdiff_t>(options_.prompt.size()), sequence_.end());
  report.recoveries = recoveries_;
  RequestTimings& timings = report.timings;
  if (times.accepted) timings.queue_s = since_start(*times.accepted);
  if (times.last_prefill_compute) {
    timings.prefill_s = since_start(*times.last_prefill_compute);
    if (times.kv_complete)
      timings.exposed_transfer_s = std::max(0.0, seconds(*times.kv_complete - *times.last_prefill_compute));
  }
  if (first_token_) {
    timings.first_token_s = since_start(*first_token_);
    timings.decode_s = seconds(last_token_ - *first_token_);
  }
  timings.total_s = since_start(now());
  report.transfer = transfer_;
  report.salvaged_tokens = salvaged_tokens_;
  report.emulated = times.peer_emulated || host_.executor.engine().emulated();
  report.prefill_overrun = std::max(times.prefill_emulation.overrun_fraction(), times.peer_overrun);
  report.decode_overrun = times.decode_emulation.overrun_fraction();
  return report;
}

void Request::end(Result<RequestReport> report) {
  if (ended_) return;
  ended_ = true;
  session_.reset();
  workspace_.reset();
  observer_.on_finished(std::move(report));
}

}  // namespace baton::node
