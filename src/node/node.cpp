#include "node/node.h"

#include <algorithm>
#include <cassert>
#include <format>

namespace baton::node {

Result<std::unique_ptr<Node>> Node::create(net::EventLoop& loop, const net::Identity& identity, NodeOptions options) {
  std::unique_ptr<Node> node(new Node(loop, identity, std::move(options)));
  Node* const raw = node.get();
  if (node->transport_ == nullptr) {
    node->own_transport_ = TRY(net::Transport::create(loop, identity, node->options_.emulate_link));
    node->transport_ = node->own_transport_.get();
  }
  node->exchange_ = std::make_unique<Exchange>(
      loop, *node->transport_,
      [raw](const handoff::Open& open) -> Result<handoff::Widths> {
        return TRY(raw->model_for(open))
        ->widths();
      },
      [raw](const handoff::Open& open, const net::Fingerprint& peer) { return raw->on_open(open, peer); },
      node->options_.surroundings);
  if (node->options_.listen) {
    net::ListenOptions listen;
    listen.is_trusted = node->options_.is_trusted;
    node->listener_ = TRY(node->transport_->listen(*node->options_.listen, std::move(listen), [raw](auto connection) {
      raw->exchange_->adopt(std::move(connection));
    }));
  }
  return node;
}

Node::Node(net::EventLoop& loop, const net::Identity& identity, NodeOptions options)
    : loop_(loop),
      fingerprint_(identity.fingerprint().to_string()),
      lease_key_(identity.signing_key()),
      options_(std::move(options)),
      transport_(options_.transport),
      quiet_timer_(loop) {}

Node::~Node() {
  end_all_work();
  // All at once, as they share the time.
  const TimePoint until = now() + kLastWritesTime;
  for (const auto& model : models_) model->begin_last_writes(until);
}

LoadedModel& Node::add(ModelParts parts) {
  assert(!std::ranges::contains(models_, parts.digest, [](const auto& model) { return model->digest(); }));
  models_.push_back(std::make_unique<LoadedModel>(std::move(parts),
                                                  ModelSurroundings{.loop = loop_,
                                                                    .exchange = *exchange_,
                                                                    .fingerprint = fingerprint_,
                                                                    .lease_key = lease_key_,
                                                                    .early_hidden_bytes = options_.early_hidden_bytes,
                                                                    .kept_bytes = options_.kept_bytes,
                                                                    .kept_prefixes = options_.kept_prefixes,
                                                                    .kept_folder = options_.kept_folder,
                                                                    .surroundings = options_.surroundings}));
  return *models_.back();
}

ModelParts Node::remove(LoadedModel& model) {
  assert(!model.is_used());
  ModelParts parts = model.take_apart();
  std::erase_if(models_, [&](const auto& held) { return held.get() == &model; });
  return parts;
}

void Node::forget_kept_texts(const Sha256& model) {
  if (options_.kept_folder) options_.kept_folder->forget(model);
}

void Node::end_all_work() {
  for (const auto& model : models_) model->end_all_work({ErrorCode::kUnavailable, "the node is shutting down", {}});
}

std::optional<net::Endpoint> Node::endpoint() const {
  if (!listener_) return std::nullopt;
  return listener_->endpoint();
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

Result<LoadedModel*> Node::model_for(const handoff::Open& open) const {
  const auto found = std::ranges::find(models_, open.model, [](const auto& model) { return model->digest(); });
  if (found != models_.end()) return found->get();
  if (options_.why_not_loaded) {
    if (auto why = options_.why_not_loaded(open.model)) return std::unexpected(*std::move(why));
  }
  std::string here;
  for (const auto& model : models_) {
    here += std::format("{}{}", here.empty() ? "" : ", ", model->digest().hex().substr(0, 12));
  }
  return fail(ErrorCode::kInvalidArgument,
              std::format("this node has another model: its digest begins with {}, not {}",
                          here.empty() ? "nothing" : here, open.model.hex().substr(0, 12)));
}

Result<TimePoint> Node::check_right(const handoff::Open& open) const {
  TRY(check_lease(open));
  const std::string& coordinator = open.plan.nodes.front().fingerprint;
  const auto& is_trusted = options_.is_trusted;
  if (coordinator != fingerprint_ && !(is_trusted && is_trusted(TRY(net::Fingerprint::parse(coordinator))))) {
    return fail(ErrorCode::kRefused, "the request is of a node for which this one does not work");
  }
  return leases_.end_of(open, options_.surroundings.now());
}

void Node::cut_off(const net::Fingerprint& peer) {
  const std::string name = peer.to_string();
  for (const auto& model : models_) {
    model->end_work_with(name, {ErrorCode::kRefused, "a node of the request's plan is no member any more", {}});
  }
  leases_.forget(name);
  exchange_->drop(peer);
}

Result<Exchange::OpenDecision> Node::on_open(const handoff::Open& open, const net::Fingerprint& peer) {
  LoadedModel& model = *TRY(model_for(open));
  TRY(model.check_open(open, peer));
  const TimePoint lease_end = TRY(check_right(open));
  if (handoff::wants_guesses(open)) {
    const auto guesser = TRY(model.guesser_for(open, lease_end));
    leases_.note(open, options_.surroundings.now());
    return Exchange::OpenDecision{guesser, [guesser](const auto& transfer) { guesser->serve(transfer); }};
  }
  auto session = TRY(model.session_for(open, lease_end));
  leases_.note(open, options_.surroundings.now());
  TRY(session->check_serves(open.receiver));
  return Exchange::OpenDecision{session, [session](const auto& transfer) { session->serve(transfer); }};
}

}  // namespace baton::node
