#include "node/loaded_model.h"

#include <algorithm>
#include <chrono>
#include <format>

#include "base/log.h"
#include "node/lease.h"
#include "node/prefix_names.h"
#include "node/request_prefix.h"

namespace baton::node {

namespace {

constexpr auto kMaxLeaseLifetime = std::chrono::hours(24);
// So long requests wait until it is known what is kept on disk.
constexpr auto kLookingTime = std::chrono::seconds(10);

}  // namespace

LoadedModel::LoadedModel(ModelParts parts, ModelSurroundings given)
    : parts_(std::move(parts)),
      fingerprint_(std::move(given.fingerprint)),
      late_readings_(given.loop),
      began_(given.surroundings.now()) {
  engine::Executor& executor = *parts_.executor;
  scheduler_ = engine::BatchScheduler::create(
      executor, [&loop = given.loop](net::Task task) { loop.post(std::move(task)); }, given.surroundings.now);
  if (given.kept_prefixes == KeptPrefixes::kUntilRoomIsNeeded) {
    std::unique_ptr<DiskTexts> disk;
    if (given.kept_folder) {
      disk = std::make_unique<DiskTexts>(std::move(given.kept_folder), executor.engine(), parts_.digest,
                                         parts_.prefill_tokens_per_s);
    }
    prefix_cache_ = std::make_shared<PrefixCache>(executor.engine(), std::move(disk));
  }
  host_ = std::make_unique<SessionHost>(given.loop, executor, *scheduler_, given.exchange,
                                        widths_of(executor.engine().shape()), std::move(given.surroundings),
                                        given.early_hidden_bytes, given.kept_bytes, parts_.draft.get(),
                                        std::move(given.lease_key), prefix_cache_);
}

LoadedModel::~LoadedModel() {
  end_all_work({ErrorCode::kUnavailable, "the node is shutting down", {}});
  begin_last_writes(now() + kLastWritesTime);
  parts_.last_writes.wait();
  // Passes under way still use the rest of this.
  parts_.executor.reset();
}

ModelParts LoadedModel::take_apart() {
  begin_last_writes(now() + kLastWritesTime);
  return std::move(parts_);
}

void LoadedModel::begin_last_writes(TimePoint until) {
  scheduler_->close();
  if (prefix_cache_ == nullptr) return;
  parts_.last_writes = prefix_cache_->write_all(until);
  prefix_cache_.reset();
}

void LoadedModel::write_ahead() {
  if (prefix_cache_ != nullptr) prefix_cache_->write_ahead();
}

bool LoadedModel::is_reading_back(const RequestOptions& options, std::shared_ptr<const ReadingBack>& reading) {
  if (prefix_cache_ == nullptr || !may_go_on_behind_a_prefix(options.plan)) return false;
  if (reading != nullptr) return !reading->ended;
  // A disk that hangs keeps nobody waiting: as if nothing were there.
  if (!prefix_cache_->knows_disk() && host_->surroundings.now() - began_ < kLookingTime) return true;
  handoff::Open open;
  open.plan = options.plan;
  open.plan.nodes.front() = {std::string(plan::kLocalName), "", fingerprint_};
  open.chunk_tokens = options.chunk_tokens;
  open.codec = options.codec;
  open.hidden = options.hidden;
  open.determinism = options.determinism;
  const PrefixNeed need = prefix_need(open, static_cast<std::uint32_t>(options.prompt.size()) + options.max_new_tokens,
                                      {0, host_->widths.layers()});
  reading = prefix_cache_->read_back(need, options.prompt, hold(), host_->surroundings.now());
  if (!reading->ended) end_late_readings();
  return !reading->ended;
}

void LoadedModel::end_late_readings() {
  if (prefix_cache_ == nullptr) return;
  if (const auto next = prefix_cache_->end_late_readings(host_->surroundings.now())) {
    late_readings_.start(*next, [this] { end_late_readings(); });
  }
}

void LoadedModel::end_all_work(const Error& error) {
  for (const auto& request : requests_) request->cancel();
  for (const auto& [id, weak] : sessions_) {
    if (const auto session = weak.lock()) session->stop(error);
  }
  for (const auto& weak : guessers_) {
    if (const auto guesser = weak.lock()) guesser->stop(error);
  }
}

void LoadedModel::end_work_with(const std::string& fingerprint, const Error& error) {
  for (const auto& [id, weak] : sessions_) {
    const auto session = weak.lock();
    if (session && std::ranges::contains(session->open().plan.nodes, fingerprint, &plan::NodeRef::fingerprint)) {
      session->stop(error);
    }
  }
  for (const auto& weak : guessers_) {
    const auto guesser = weak.lock();
    if (guesser && guesser->open().plan.nodes.front().fingerprint == fingerprint) guesser->stop(error);
  }
}

LoadedModel::Room LoadedModel::room() const {
  const std::uint32_t kept = prefix_cache_ ? prefix_cache_->cells() : 0;
  return {.cells = engine().free_cells() + kept, .kept_cells = kept};
}

Result<std::shared_ptr<Workspace>> LoadedModel::take_room(std::uint32_t tokens) {
  if (prefix_cache_) return prefix_cache_->reserve(tokens);
  auto workspace = std::make_shared<Workspace>(parts_.executor->engine());
  TRY(workspace->reserve(tokens));
  return workspace;
}

bool LoadedModel::is_used() {
  forget_ended_requests();
  return host_->use.use_count() > 1;
}

Result<void> LoadedModel::check_taken() const {
  if (retired_) return fail(ErrorCode::kNoCapacity, "the model is being unloaded, as another needs its room");
  return {};
}

Result<std::shared_ptr<Request>> LoadedModel::submit(RequestOptions options, RequestObserver& observer) {
  TRY(check_taken());
  handoff::Open open;
  open.agent = "owner";
  open.model = digest();
  open.plan.nodes = {{std::string(plan::kLocalName), "", fingerprint_}};
  auto request = TRY(Request::start(*host_, std::move(open), std::move(options), observer));
  forget_ended_requests();
  requests_.push_back(request);
  return request;
}

Result<void> LoadedModel::check_open(const handoff::Open& open, const net::Fingerprint& peer) const {
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
  // What the stages before it, or the steps of a decode that others take part in, have left here of earlier requests is
  // not kept.
  const plan::Stage* prefill = plan::stage_of(open.plan.prefill, open.sender);
  const bool reads_first =
      prefill != nullptr && prefill->layers.begin == 0 && plan::stage_of(open.plan.decode, open.sender) == nullptr;
  if (open.prefix_tokens != 0 && !reads_first && !does_all(open.plan, open.sender)) {
    return fail(ErrorCode::kUnsupported, "only the first stage of a prefill goes on behind a prefix");
  }
  if (open.chunk_tokens > engine().options().max_chunk_tokens) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("chunks of {} tokens are asked for, but this node computes {} at once", open.chunk_tokens,
                            engine().options().max_chunk_tokens));
  }
  for (const plan::Stages* stages : {&open.plan.prefill, &open.plan.decode}) {
    const plan::Stage* stage = plan::stage_of(*stages, open.sender);
    if (stage != nullptr && !engine().holds(stage->layers)) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("this node has not loaded layers {}-{}", stage->layers.begin, stage->layers.end));
    }
  }
  return {};
}

void LoadedModel::forget_ended_requests() {
  std::erase_if(requests_, [](const auto& request) { return request->ended(); });
}

Result<std::shared_ptr<Session>> LoadedModel::known_session(const handoff::Id& request) {
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

Result<std::shared_ptr<Workspace>> LoadedModel::workspace_for(const handoff::Open& open, std::uint32_t tokens) {
  if (!prefix_cache_) return take_room(tokens);
  PrefixNeed need{.tokens = tokens, .layers = {}, .origin = {.loss = {}, .shape = shape_of_chunks(open.chunk_tokens)}};
  if (const plan::Stage* prefill = plan::stage_of(open.plan.prefill, open.sender)) need.layers = prefill->layers;
  need.exactly = open.determinism == handoff::Determinism::kDeterministic;
  if (need.exactly) need.grid = open.chunk_tokens;
  return prefix_cache_->take(need, TRY(named_prefixes(open)), prefix_context(open), open.chunk_tokens);
}

std::uint32_t LoadedModel::kept_tokens(std::span<const Token> prompt) const {
  if (prefix_cache_ == nullptr) return 0;
  const PrefixNeed need{
      .tokens = static_cast<std::uint32_t>(prompt.size()), .layers = {0, host_->widths.layers()}, .origin = {}};
  return prefix_cache_->common_tokens(need, prompt);
}

Result<std::shared_ptr<Guesser>> LoadedModel::guesser_for(const handoff::Open& open, TimePoint lease_end) {
  TRY(check_taken());
  auto guesser = TRY(Guesser::create(*host_, open, lease_end));
  std::erase_if(guessers_, [](const auto& weak) { return weak.expired(); });
  guessers_.push_back(guesser);
  return guesser;
}

Result<std::shared_ptr<Session>> LoadedModel::session_for(const handoff::Open& open, TimePoint lease_end) {
  if (auto session = TRY(known_session(open.request))) {
    if (session->self() != open.sender || common_part(session->open()) != common_part(open)) {
      return fail(ErrorCode::kInvalidArgument, "two nodes opened the same request with different plans");
    }
    return session;
  }
  if (open.sender == plan::kCoordinator) {
    return fail(ErrorCode::kNotFound, "this node does not coordinate such a request (any more)");
  }
  TRY(check_taken());
  const bool decodes = plan::stage_of(open.plan.decode, open.sender) != nullptr;
  auto workspace = TRY(workspace_for(open, open.prompt_tokens + (decodes ? open.max_new_tokens : 0)));
  auto session = Session::create(*host_, open, open.sender, std::move(workspace), nullptr);
  session->end_by(lease_end);
  sessions_[open.request] = session;
  log::info("request {}: {} tokens, {}", open.request.hex().substr(0, 12), open.prompt_tokens, open.plan.to_string());
  return session;
}

}  // namespace baton::node
