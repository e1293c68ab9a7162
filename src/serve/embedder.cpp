#include "serve/embedder.h"

#include <algorithm>
#include <atomic>
#include <format>

#include "node/workspace.h"

namespace baton::serve {

namespace {

// While something waits: how often it is looked whether it can begin now.
constexpr auto kEmbedAgain = std::chrono::milliseconds(5);

}  // namespace

struct Embedder::Job {
  Id id = 0;
  EmbedRequest request;
  Done done;
  Vectors vectors;  // of the texts before the one that is next
  TimePoint waits_since;

  const std::vector<Token>& next_text() const { return request.texts[vectors.size()]; }
};

// One text on its way through the layers, chunk by chunk.
class Embedder::Text : public std::enable_shared_from_this<Text> {
 public:
  Text(std::weak_ptr<Embedder> owner, node::LoadedModel& model, std::shared_ptr<node::Workspace> workspace,
       std::vector<Token> tokens, engine::Pooling pooling)
      : owner_(std::move(owner)),
        model_(model),
        use_of_model_(model.hold()),
        workspace_(std::move(workspace)),
        tokens_(std::move(tokens)),
        pooling_(pooling),
        vector_(model.engine().shape().embedding_width) {}

  void submit_next();
  void on_piece(std::span<const float> rows, std::uint32_t count);
  void on_failed(const Error& error) { finish(std::unexpected(error)); }
  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

  std::size_t size() const { return tokens_.size(); }
  std::vector<float> take_vector() { return std::move(vector_); }

 private:
  void finish(const Result<void>& result) {
    if (const auto owner = owner_.lock(); owner && !cancelled_) owner->on_text_done(result);
  }

  const std::weak_ptr<Embedder> owner_;
  node::LoadedModel& model_;
  const std::shared_ptr<const void> use_of_model_;  // before what is the model's
  const std::shared_ptr<node::Workspace> workspace_;
  const std::vector<Token> tokens_;
  const engine::Pooling pooling_;
  const TimePoint came_ = now();
  std::uint32_t done_ = 0;  // tokens
  std::vector<float> vector_;
  std::atomic<bool> cancelled_ = false;
};

class Embedder::Piece : public engine::ScheduledPass {
 public:
  explicit Piece(std::shared_ptr<Text> text) : text_(std::move(text)) { kind = Kind::kChunk; }
  bool cancelled() const override { return text_->cancelled(); }
  void on_begun() override {}
  void on_layer_done(std::uint32_t) override {}
  void on_done(const Result<void>& result, const std::optional<engine::EmulationReport>&) override {
    if (!result) return text_->on_failed(result.error());
    text_->on_piece(logits, span.token_count);
  }

 private:
  const std::shared_ptr<Text> text_;
};

void Embedder::Text::submit_next() {
  const engine::Engine& engine = model_.engine();
  const auto left = static_cast<std::uint32_t>(tokens_.size()) - done_;
  const std::uint32_t count = model_.scheduler().chunk_now(std::min(left, engine.options().max_chunk_tokens));
  auto piece = std::make_shared<Piece>(shared_from_this());
  piece->layers = {0, engine.shape().layer_count};
  piece->head = engine::HeadResult::kNormed;
  piece->prompt_came = came_;
  piece->prompt_tokens = static_cast<std::uint32_t>(tokens_.size());
  piece->tokens.assign(tokens_.begin() + done_, tokens_.begin() + done_ + count);
  piece->span = {.sequence = &workspace_->sequence(), .first_position = done_, .token_count = count};
  if (pooling_ == engine::Pooling::kMean) piece->span.logits = engine::WantedLogits::kAll;
  if (pooling_ == engine::Pooling::kLast && count == left) piece->span.logits = engine::WantedLogits::kLast;
  model_.scheduler().submit(std::move(piece));
}

void Embedder::Text::on_piece(std::span<const float> rows, std::uint32_t count) {
  for (std::size_t index = 0; index < rows.size(); ++index) vector_[index % vector_.size()] += rows[index];
  done_ += count;
  if (cancelled_) return;
  if (done_ < tokens_.size()) return submit_next();
  if (pooling_ == engine::Pooling::kMean) {
    for (float& value : vector_) value /= static_cast<float>(tokens_.size());
  }
  finish({});
}

std::shared_ptr<Embedder> Embedder::create(net::EventLoop& loop, node::PooledModel& model, EmbedderLimits limits,
                                           Metrics& metrics) {
  return std::shared_ptr<Embedder>(new Embedder(loop, model, limits, metrics));
}

Embedder::Embedder(net::EventLoop& loop, node::PooledModel& model, EmbedderLimits limits, Metrics& metrics)
    : loop_(loop), model_(model), limits_(limits), metrics_(metrics), timer_(loop) {}

Embedder::~Embedder() {
  if (text_) text_->cancel();
  while (!jobs_.empty()) end_front(fail(ErrorCode::kUnavailable, "the model is not served here any more"));
}

void Embedder::start(Id id, EmbedRequest request, Done done) {
  if (jobs_.size() >= limits_.waiting) {
    return done(fail(ErrorCode::kNoCapacity,
                     std::format("{} requests for vectors are waiting already: come back later", jobs_.size())));
  }
  auto job = std::make_unique<Job>();
  job->id = id;
  job->request = std::move(request);
  job->done = std::move(done);
  job->waits_since = now();
  jobs_.push_back(std::move(job));
  loop_.post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->go_on();
  });
}

void Embedder::cancel(Id id) {
  const auto found = std::ranges::find(jobs_, id, [](const auto& job) { return job->id; });
  if (found == jobs_.end()) return;
  if (found == jobs_.begin() && text_) {
    text_->cancel();
    text_.reset();
  }
  jobs_.erase(found);
  go_on();
}

Result<std::shared_ptr<Embedder::Text>> Embedder::begin_text(node::LoadedModel& model, const Job& job) {
  if (!model.engine().holds({0, model.engine().shape().layer_count})) {
    return fail(ErrorCode::kUnsupported, "this node holds only some of the model's layers: ask one that has all");
  }
  const auto& tokens = job.next_text();
  auto room = TRY(model.take_room(static_cast<std::uint32_t>(tokens.size())));
  if (job.request.keep_alive) model_.keep_alive(*job.request.keep_alive);
  return std::make_shared<Text>(weak_from_this(), model, std::move(room), tokens, job.request.pooling);
}

void Embedder::go_on() {
  while (!text_ && !jobs_.empty()) {
    Job& job = *jobs_.front();
    const auto model = model_.ask();
    Error why_not{ErrorCode::kUnavailable, "the model was not loaded in time: come back later", {}};
    bool may_come = true;
    if (!model) {
      why_not = model.error();
      may_come = false;
    } else if (*model != nullptr) {
      auto text = begin_text(**model, job);
      if (text) {
        text_ = *std::move(text);
        return text_->submit_next();
      }
      why_not = std::move(text.error());
      may_come = why_not.code == ErrorCode::kNoCapacity;
    }
    if (may_come && now() - job.waits_since <= limits_.waiting_time) {
      if (!timer_.armed()) timer_.start(Duration(kEmbedAgain), [this] { go_on(); });
      return;
    }
    end_front(std::unexpected(std::move(why_not)));
  }
}

void Embedder::end_front(Result<Vectors> result) {
  const std::unique_ptr<Job> job = std::move(jobs_.front());
  jobs_.pop_front();
  job->done(std::move(result));
}

void Embedder::on_text_done(const Result<void>& result) {
  const auto text = std::exchange(text_, nullptr);
  if (!result) {
    end_front(std::unexpected(result.error()));
    return go_on();
  }
  metrics_.count_embedded(text->size());
  Job& job = *jobs_.front();
  job.vectors.push_back(text->take_vector());
  if (job.vectors.size() == job.request.texts.size()) {
    end_front(std::move(job.vectors));
  } else {
    // The next request's turn.
    job.waits_since = now();
    jobs_.push_back(std::move(jobs_.front()));
    jobs_.pop_front();
  }
  go_on();
}

}  // namespace baton::serve
