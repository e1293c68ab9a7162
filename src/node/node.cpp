#include "node/node.h"

#include <algorithm>
#include <format>

#include "base/log.h"
#include "node/prefix_names.h"

namespace baton::node {

namespace {

constexpr auto kMaxLeaseLifetime = std::chrono::hours(24);

}  // namespace

Result<std::unique_ptr<Node>> Node::create(net::EventLoop& loop, const net::Identity& identity,
                                           std::unique_ptr<engine::Executor> executor, const Sha256& digest,
                                           NodeOptions options) {
  std::unique_ptr<Node> node(new Node(loop, identity, std::move(executor), digest, options));
  node->draft_ = std::move(options.draft);
  if (node->transport_ == nullptr) {
    node->own_transport_ = TRY(net::Transport::create(loop, identity, options.emulate_link));
    node->transport_ = node->own_transport_.get();
  }
  const handoff::Widths widths = widths_of(node->executor_->engine().shape());
  node->exchange_ = std::make_unique<Exchange>(
      loop, *node->transport_, widths,
      [node = node.get()](const handoff::Open& open, const net::Fingerprint& peer) {
        return node->on_open(open, peer);
      },
      options.surroundings);
  node->scheduler_ = engine::BatchScheduler::create(
      *node->executor_, [&loop](net::Task task) { loop.post(std::move(task)); }, options.surroundings.now);
  if (options.kept_prefixes == KeptPrefixes::kUntilRoomIsNeeded) {
    node->prefix_cache_ = std::make_shared<PrefixCache>(node->executor_->engine());
  }
  node->host_ = std::make_unique<SessionHost>(loop, *node->executor_, *node->scheduler_, *node->exchange_, widths,
                                              options.surroundings, options.early_hidden_bytes, options.kept_bytes,
                                              node->draft_.get(), identity.signing_key(), node->prefix_cache_);
  if (options.listen) {
    net::ListenOptions listen;
    listen.is_trusted = options.is_trusted;
    node->listener_ =
        TRY(node->transport_->listen(*options.listen, std::move(listen), [node = node.get()](auto connection) {
          node->exchange_->adopt(std::move(connection));
        }));
  }
  return node;
}

Node::Node(net::EventLoop& loop, const net::Identity& identity, std::unique_ptr<engine::Executor> executor,
           const Sha256& digest, const NodeOptions& options)
    : fingerprint_(identity.fingerprint().to_string()),
      digest_(digest),
      executor_(std::move(executor)),
      is_trusted_(options.is_trusted),
      now_(options.surroundings.now),
      transport_(options.transport),
      quiet_timer_(loop) {}

Node::~Node() {
  end_all_work();
  scheduler_->close();
  prefix_cache_.reset();
  // Passes under way still use the rest of this node.
  executor_.reset();
}

void Node::end_all_work() {
  for (const auto& request : requests_) request->cancel();
  for (const auto& [id, weak] : sessions_) {
    if (const auto session = weak.lock()) session->stop({ErrorCode::kUnavailable, "the node is shutting down", {}});
  }
  for (const auto& weak : guessers_) {
    if (const auto guesser = weak.lock()) guesser->stop({ErrorCode::kUnavailable, "the node is shutting down", {}});
  }
}

std::optional<net::Endpoint> Node::endpoint() const {
  if (!listener_) return std::nullopt;
  return listener_->endpoint();
}

Node::Room Node::room() const {
  const std::uint32_t kept = prefix_cache_ ? prefix_cache_->cells() : 0;
  return {.cells = executor_->engine().free_cells() + kept, .kept_cells = kept};
}

Result<std::shared_ptr<Workspace>> Node::take_room(std::uint32_t tokens) {
  if (prefix_cache_) return prefix_cache_->reserve(tokens);
  auto workspace = std::make_shared<Workspace>(executor_->engine());
  TRY(workspace->reserve(tokens));
  return workspace;
}

void Node::when_quiet(Duration patience, net::Task task) {
  static constexpr auto kPollInterval = std::chrono::milliseconds(2);
  if (transfers() == 0 || patience <= Duration::zero()) return task();
  quiet_timer_.start(Duration(kPollInterval), [this, patience, task = std::move(task)]() mutable {
    when_quiet(patience - kPollInterval, std::move(task));
  });
}

void Node::shut_down(Duration patience, net::Task task) {
  listener_.reset();
  end_all_work();
  exchange_->close(patience, std::move(task));
}

Result<std::shared_ptr<Request>> Node::submit(RequestOptions options, RequestObserver& observer) {
  handoff::Open open;
  open.agent = "owner";
  open.model = digest_;
  open.plan.nodes = {{std::string(plan::kLocalName), "", fingerprint_}};
  auto request = TRY(Request::start(*host_, std::move(open), std::move(options), observer));
  forget_ended_requests();
  requests_.push_back(request);
  return request;
}

Result<void> Node::check_open(const handoff::Open& open, const net::Fingerprint& peer) const {
  // Before the plan, which fits the sender's model.
  if (open.model != digest_) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("this node has another model: its digest begins with {}, not {}",
                            digest_.hex().substr(0, 12), open.model.hex().substr(0, 12)));
  }
  TRY(handoff::check(open, host_->widths.layers()));
  if (open.plan.nodes[open.sender].fingerprint != fingerprint_) {
    return fail(ErrorCode::kInvalidArgument, "the plan gives this work to another node");
  }
  if (open.plan.nodes[open.receiver].fingerprint != peer.to_string()) {
    return fail(ErrorCode::kRefused, "the plan names another node as the receiver");
  }
  if (std::chrono::milliseconds(open.lease_lifetime_ms) > kMaxLeaseLifetime) {
    return fail(ErrorCode::kRefused, "the request's lease is longer than a day");
  }
  // What the stages before it, or the steps of a decode, have left here of earlier requests is not kept.
  const plan::Stage* prefill = plan::stage_of(open.plan.prefill, open.sender);
  if (open.prefix_tokens != 0 &&
      (prefill == nullptr || prefill->layers.begin != 0 || plan::stage_of(open.plan.decode, open.sender) != nullptr)) {
    return fail(ErrorCode::kUnsupported, "only the first stage of a prefill goes on behind a prefix");
  }
  const engine::Engine& engine = executor_->engine();
  if (open.chunk_tokens > engine.options().max_chunk_tokens) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("chunks of {} tokens are asked for, but this node computes {} at once", open.chunk_tokens,
                            engine.options().max_chunk_tokens));
  }
  for (const plan::Stages* stages : {&open.plan.prefill, &open.plan.decode}) {
    const plan::Stage* stage = plan::stage_of(*stages, open.sender);
    if (stage != nullptr && !engine.holds(stage->layers)) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("this node has not loaded layers {}-{}", stage->layers.begin, stage->layers.end));
    }
  }
  return {};
}

Result<TimePoint> Node::check_right(const handoff::Open& open) const {
  TRY(check_lease(open));
  const std::string& coordinator = open.plan.nodes.front().fingerprint;
  if (coordinator != fingerprint_ && !(is_trusted_ && is_trusted_(TRY(net::Fingerprint::parse(coordinator))))) {
    return fail(ErrorCode::kRefused, "the request is of a node for which this one does not work");
  }
  return leases_.end_of(open, now_());
}

void Node::cut_off(const net::Fingerprint& peer) {
  const std::string name = peer.to_string();
  for (const auto& [id, weak] : sessions_) {
    const auto session = weak.lock();
    if (session && std::ranges::contains(session->open().plan.nodes, name, &plan::NodeRef::fingerprint)) {
      session->stop({ErrorCode::kRefused, "a node of the request's plan is no member any more", {}});
    }
  }
  for (const auto& weak : guessers_) {
    const auto guesser = weak.lock();
    if (guesser && guesser->open().plan.nodes.front().fingerprint == name) {
      guesser->stop({ErrorCode::kRefused, "the node whose text it is is no member any more", {}});
    }
  }
  leases_.forget(name);
  exchange_->drop(peer);
}

Result<Exchange::OpenDecision> Node::on_open(const handoff::Open& open, const net::Fingerprint& peer) {
  TRY(check_open(open, peer));
  const TimePoint lease_end = TRY(check_right(open));
  if (handoff::wants_guesses(open)) {
    const auto guesser = TRY(guesser_for(open, lease_end));
    leases_.note(open, now_());
    return Exchange::OpenDecision{guesser, [guesser](const auto& transfer) { guesser->serve(transfer); }};
  }
  auto session = TRY(session_for(open, lease_end));
  leases_.note(open, now_());
  TRY(session->check_serves(open.receiver));
  return Exchange::OpenDecision{session, [session](const auto& transfer) { session->serve(transfer); }};
}

void Node::forget_ended_requests() {
  std::erase_if(requests_, [](const auto& request) { return request->ended(); });
}

Result<std::shared_ptr<Session>> Node::known_session(const handoff::Id& request) {
  forget_ended_requests();
  for (const auto& own : requests_) {
    if (own->id() != request) continue;
    if (!own->session()) return fail(ErrorCode::kRefused, "the request has another plan by now");
    return own->session();
  }
  std::erase_if(sessions_, [](const auto& entry) { return entry.second.expired(); });
  const auto found = sessions_.find(request);
  return found == sessions_.end() ? nullptr : found->second.lock();
}

Result<std::shared_ptr<Workspace>> Node::workspace_for(const handoff::Open& open, std::uint32_t tokens) {
  if (!prefix_cache_) {
    auto workspace = std::make_shared<Workspace>(executor_->engine());
    TRY(workspace->reserve(tokens));
    return workspace;
  }
  PrefixNeed need{.tokens = tokens, .layers = {}, .origin = {.loss = {}, .shape = shape_of_chunks(open.chunk_tokens)}};
  if (const plan::Stage* prefill = plan::stage_of(open.plan.prefill, open.sender)) need.layers = prefill->layers;
  need.exactly = open.determinism == handoff::Determinism::kDeterministic;
  if (need.exactly) need.grid = open.chunk_tokens;
  return prefix_cache_->take(need, TRY(named_prefixes(open)), prefix_context(open), open.chunk_tokens);
}

std::uint32_t Node::kept_tokens(std::span<const Token> prompt) const {
  if (prefix_cache_ == nullptr) return 0;
  const PrefixNeed need{
      .tokens = static_cast<std::uint32_t>(prompt.size()), .layers = {0, host_->widths.layers()}, .origin = {}};
  return prefix_cache_->common_tokens(need, prompt);
}

Result<std::shared_ptr<Guesser>> Node::guesser_for(const handoff::Open& open, TimePoint lease_end) {
  auto guesser = TRY(Guesser::create(*host_, open, lease_end));
  std::erase_if(guessers_, [](const auto& weak) { return weak.expired(); });
  guessers_.push_back(guesser);
  return guesser;
}

Result<std::shared_ptr<Session>> Node::session_for(const handoff::Open& open, TimePoint lease_end) {
  if (auto session = TRY(known_session(open.request))) {
    if (session->self() != open.sender || common_part(session->open()) != common_part(open)) {
      return fail(ErrorCode::kInvalidArgument, "two nodes opened the same request with different plans");
    }
    return session;
  }
  if (open.sender == plan::kCoordinator) {
    return fail(ErrorCode::kNotFound, "this node does not coordinate such a request (any more)");
  }
  const bool decodes = plan::stage_of(open.plan.decode, open.sender) != nullptr;
  auto workspace = TRY(workspace_for(open, open.prompt_tokens + (decodes ? open.max_new_tokens : 0)));
  auto session = Session::create(*host_, open, open.sender, std::move(workspace), nullptr);
  session->end_by(lease_end);
  sessions_[open.request] = session;
  log::info("request {}: {} tokens, {}", open.request.hex().substr(0, 12), open.prompt_tokens, open.plan.to_string());
  return session;
}

}  // namespace baton::node
