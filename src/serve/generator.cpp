#include "serve/generator.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <format>

#include "base/log.h"

namespace baton::serve {

namespace {

// While something waits: how often it is looked whether there is room now. Cells become free a moment after their
// request has ended.
constexpr auto kLookAgain = std::chrono::milliseconds(5);

}  // namespace

class Generator::Answer : public node::RequestObserver, public std::enable_shared_from_this<Answer> {
 public:
  Answer(Generator& generator, AnswerId id, AnswerRequest asked, std::shared_ptr<AnswerSink> sink)
      : generator_(generator),
        id_(id),
        asked_(std::move(asked)),
        sink_(std::move(sink)),
        detokenizer_(generator.vocabulary_, text::TextStart::kContinuation),
        stops_(asked_.stops),
        came_at_(std::chrono::system_clock::now()),
        queued_at_(now()),
        waits_since_(queued_at_),
        prompt_tokens_(static_cast<std::uint32_t>(asked_.request.prompt.size())) {}

  AnswerId id() const { return id_; }
  bool ended() const { return sink_ == nullptr; }
  std::uint64_t group() const { return asked_.group; }
  // Since when nothing has been done for its request.
  TimePoint waits_since() const { return waits_since_; }
  void wait_anew(TimePoint since) { waits_since_ = since; }
  TimePoint started_at() const { return started_at_; }

  // kNoCapacity where there is no room yet, and then nothing has happened.
  Result<void> try_start(node::LoadedModel& model) {
    const std::uint32_t wanted = prompt_tokens_ + asked_.request.max_new_tokens;
    if (model.room().cells < wanted) return fail(ErrorCode::kNoCapacity, "there is no room yet");
    if (model.is_reading_back(asked_.request, reading_back_)) {
      return fail(ErrorCode::kNoCapacity, "a text like it is being read back");
    }
    if (generator_.planner_ != nullptr) {
      const std::uint32_t kept = model.kept_tokens(asked_.request.prompt);
      plan_ = generator_.planner_->plan(asked_.request.prompt, kept, asked_.request.max_new_tokens);
      if (plan_) {
        plan_->apply_to(asked_.request);
        asked_.request.replan = [weak = weak_from_this()](const node::Loss& loss) -> std::optional<plan::Plan> {
          const auto self = weak.lock();
          return self && self->plan_ ? self->plan_->replan(loss) : std::nullopt;
        };
      }
    }
    request_ = TRY(model.submit(asked_.request, *this));
    started_at_ = now();
    if (asked_.keep_alive) generator_.model_.keep_alive(*asked_.keep_alive);
    if (plan_) plan_->begun(id_);
    if (sink_) sink_->on_begun();
    return {};
  }

  void end(Result<AnswerEnd> result) {
    const auto sink = std::exchange(sink_, nullptr);
    if (!sink) return;
    if (plan_ && result && started_at_ != TimePoint{}) {
      plan_->ended({.first_token_s = result->prefill_s,
                    .decode_s = result->decode_s,
                    .new_tokens = result->new_tokens,
                    .cached_tokens = result->cached_tokens,
                    .text = request_->text(),
                    .recoveries = result->recoveries});
    }
    generator_.book_.add_ended(record(result));
    plan_.reset();
    if (result) {
      generator_.metrics_.count_answer({.prompt_tokens = result->prompt_tokens,
                                        .cached_tokens = result->cached_tokens,
                                        .new_tokens = result->new_tokens,
                                        .queue_s = result->queue_s,
                                        .prefill_s = result->prefill_s,
                                        .first_token_s = result->queue_s + result->prefill_s,
                                        .decode_s = result->decode_s,
                                        .plan_shape = std::string(asked_.request.plan.shape())});
    } else {
      generator_.metrics_.count_failure(std::string(error_code_name(result.error().code)));
    }
    sink->on_end(std::move(result));
    // Not from inside the request's own call; and this observes it until then.
    if (request_ && !request_->ended()) {
      generator_.loop_.post([self = shared_from_this()] { self->request_->cancel(); });
    }
  }

  // Too many wait. It is not even written down: who asks again and again pushes nothing out of the book.
  void refuse(const Error& error) {
    const auto sink = std::exchange(sink_, nullptr);
    if (!sink) return;
    generator_.metrics_.count_failure(std::string(error_code_name(error.code)));
    sink->on_end(std::unexpected(error));
  }

  // As it is now, where it has not ended.
  AnswerRecord record() const {
    AnswerRecord record = begin_record();
    if (!request_) {
      const bool is_loaded = generator_.model_.loaded() != nullptr;
      record.state = is_loaded ? AnswerState::kQueued : AnswerState::kLoading;
      record.queue_s = seconds(now() - queued_at_);
      return record;
    }
    record.state = new_tokens_ == 0 ? AnswerState::kPrefilling : AnswerState::kDecoding;
    record.total_s = seconds(now() - started_at_);
    if (plan_) record.predicted = plan_->predicted(std::nullopt);
    return record;
  }

  void on_prefilled(std::uint32_t, std::uint32_t) override {}
  void on_recovery(const node::Recovery& recovery) override {
    log::warning("answer {}: {} ({}); going on at token {} of {}, by {}", id_,
                 recovery.lost ? recovery.lost->name + " is lost" : "this node's own part failed",
                 recovery.error.to_string(), recovery.salvaged_tokens, recovery.text_tokens,
                 recovery.replanned.to_string());
  }
  void on_logits(std::span<const float> logits) override {
    if (asked_.top_logprobs) row_.assign(logits.begin(), logits.end());
  }
  void on_token(Token token) override {
    if (ended()) return;
    last_token_at_ = now();
    if (new_tokens_++ == 0) {
      first_token_at_ = last_token_at_;
      if (plan_) plan_->prefilled();
    }
    const bool mark = std::ranges::find(asked_.marks, token) != asked_.marks.end();
    const std::string text =
        mark ? detokenizer_.finish() + generator_.vocabulary_.token_bytes(token) : detokenizer_.push(token);
    text_bytes_ += text.size();
    if (asked_.top_logprobs) scores_.push_back({text_bytes_, score(token)});
    give_out(stops_.push(text));
    if (stops_.stopped()) end(ending(EndReason::kStopText));
  }
  void on_finished(Result<node::RequestReport> report) override {
    if (report && !report->transfer_from.empty()) count_transfer(*report);
    if (ended()) return;
    if (!report) return end(std::unexpected(report.error()));
    const std::string rest = detokenizer_.finish();
    text_bytes_ += rest.size();
    std::string last = stops_.push(rest);
    last += stops_.finish();
    const bool all =
        new_tokens_ >= asked_.request.max_new_tokens || (asked_.request.filter && asked_.request.filter->shortened());
    give_out(std::move(last));
    end(ending(stops_.stopped() ? EndReason::kStopText : all ? EndReason::kLength : EndReason::kEndOfText));
  }

 private:
  AnswerRecord begin_record() const {
    AnswerRecord record{.id = id_,
                        .request = asked_.group,
                        .model = asked_.model,
                        .endpoint = asked_.endpoint,
                        .client = asked_.client,
                        .came_at = came_at_,
                        .prompt_tokens = prompt_tokens_,
                        .new_tokens = new_tokens_,
                        .most_new_tokens = asked_.request.max_new_tokens};
    if (!request_) return record;
    record.queue_s = seconds(started_at_ - queued_at_);
    record.cached_tokens = request_->cached_tokens();
    record.shape = asked_.request.plan.shape();
    record.plan = asked_.request.plan.to_string();
    record.recoveries = request_->recoveries();
    if (new_tokens_ > 0) record.first_token_s = seconds(first_token_at_ - started_at_);
    return record;
  }
  // Of an answer that ends now, before its plan has gone.
  AnswerRecord record(const Result<AnswerEnd>& end) const {
    AnswerRecord record = begin_record();
    if (plan_ && request_) record.predicted = plan_->predicted(end ? std::optional(end->new_tokens) : std::nullopt);
    if (end) {
      record.state = AnswerState::kEnded;
      record.total_s = end->prefill_s + end->decode_s;
      return record;
    }
    record.state = end.error().code == ErrorCode::kCancelled ? AnswerState::kCancelled : AnswerState::kFailed;
    record.error = end.error();
    if (request_) {
      record.total_s = seconds(now() - started_at_);
    } else {
      record.queue_s = seconds(now() - queued_at_);
    }
    return record;
  }
  void count_transfer(const node::RequestReport& report) {
    TransferFigures figures{.exposed_s = report.timings.exposed_transfer_s, .payload_bytes = {}};
    for (const auto& [peer, transfer] : report.transfer_from) figures.payload_bytes[peer] = transfer.payload_bytes;
    generator_.metrics_.count_transfer(figures);
  }
  AnswerEnd ending(EndReason reason) const {
    AnswerEnd result{.reason = reason, .stop_text = stops_.stopped().value_or("")};
    result.prompt_tokens = prompt_tokens_;
    result.cached_tokens = request_->cached_tokens();
    result.new_tokens = new_tokens_;
    result.queue_s = seconds(started_at_ - queued_at_);
    result.shape = asked_.request.plan.shape();
    result.plan = asked_.request.plan.to_string();
    result.recoveries = request_->recoveries();
    if (new_tokens_ > 0) {
      result.prefill_s = seconds(first_token_at_ - started_at_);
      result.decode_s = seconds(last_token_at_ - first_token_at_);
    }
    return result;
  }

  void give_out(std::string text) {
    Piece piece;
    given_bytes_ += text.size();
    piece.text = std::move(text);
    while (!scores_.empty() && scores_.front().end <= given_bytes_) {
      piece.scores.push_back(std::move(scores_.front().score));
      scores_.pop_front();
    }
    if (!piece.text.empty() || !piece.scores.empty()) sink_->on_piece(std::move(piece));
  }

  Piece::Score score(Token token) const {
    const float best = *std::ranges::max_element(row_);
    double sum = 0;
    for (const float logit : row_) sum += std::exp(static_cast<double>(logit - best));
    const double log_sum = static_cast<double>(best) + std::log(sum);
    const auto scored = [&](Token of) {
      const double logit = static_cast<double>(row_[static_cast<std::size_t>(of)]);
      return ScoredToken{of, generator_.vocabulary_.token_bytes(of), static_cast<float>(logit - log_sum)};
    };
    Piece::Score result{scored(token), {}};
    std::vector<Token> order(row_.size());
    for (std::size_t index = 0; index < order.size(); ++index) order[index] = static_cast<Token>(index);
    const auto count = std::min<std::size_t>(*asked_.top_logprobs, order.size());
    std::ranges::partial_sort(order, order.begin() + static_cast<std::ptrdiff_t>(count), [&](Token a, Token b) {
      const float left = row_[static_cast<std::size_t>(a)];
      const float right = row_[static_cast<std::size_t>(b)];
      return left != right ? left > right : a < b;
    });
    for (std::size_t index = 0; index < count; ++index) result.top.push_back(scored(order[index]));
    return result;
  }

  struct HeldScore {
    std::size_t end = 0;  // of the token, in bytes of the text
    Piece::Score score;
  };

  Generator& generator_;
  const AnswerId id_;
  AnswerRequest asked_;
  std::shared_ptr<AnswerSink> sink_;                       // null once ended
  std::unique_ptr<AnswerPlan> plan_;                       // null where it runs as it was asked, and once ended
  std::shared_ptr<const node::ReadingBack> reading_back_;  // null before it was looked for
  std::shared_ptr<node::Request> request_;
  text::Detokenizer detokenizer_;
  StopFinder stops_;
  std::vector<float> row_;
  std::deque<HeldScore> scores_;
  std::size_t text_bytes_ = 0;
  std::size_t given_bytes_ = 0;
  const std::chrono::system_clock::time_point came_at_;
  TimePoint queued_at_;
  TimePoint waits_since_;
  TimePoint started_at_{};
  TimePoint first_token_at_{};
  TimePoint last_token_at_{};
  const std::uint32_t prompt_tokens_;
  std::uint32_t new_tokens_ = 0;
};

Generator::Generator(net::EventLoop& loop, node::PooledModel& model, const text::Vocabulary& vocabulary,
                     GeneratorLimits limits, Metrics& metrics, AnswerBook& book, AnswerPlanner* planner)
    : loop_(loop),
      model_(model),
      vocabulary_(vocabulary),
      limits_(limits),
      metrics_(metrics),
      book_(book),
      planner_(planner),
      queue_(limits.waiting + limits.running),
      timer_(loop) {}

Generator::~Generator() {
  *alive_ = false;
  const Error error{ErrorCode::kUnavailable, "the server is shutting down", {}};
  end_waiting(error);
  for (const auto& answer : running_) answer->end(std::unexpected(error));
}

void Generator::end_waiting(const Error& error) {
  for (const auto& answer : queue_.remove_if([](const auto&) { return true; })) answer->end(std::unexpected(error));
  for (Loader& loader : std::exchange(loaders_, {})) loader.done(std::unexpected(error));
}

void Generator::start(AnswerId id, AnswerRequest request, std::shared_ptr<AnswerSink> sink) {
  const std::string client = request.client;
  auto answer = std::make_shared<Answer>(*this, id, std::move(request), std::move(sink));
  forget_ended();
  const std::size_t free_places = limits_.running - std::min(limits_.running, running_.size());
  const bool full = queue_.size() >= limits_.waiting + free_places;
  if (full || !queue_.push(client, answer)) {
    loop_.post([answer, waiting = queue_.size(), alive = alive_] {
      if (!*alive) return;
      answer->refuse(
          {ErrorCode::kNoCapacity, std::format("{} answers are waiting already: come back later", waiting), {}});
    });
    return;
  }
  loop_.post([this, alive = alive_] {
    if (*alive) admit();
  });
}

bool Generator::cancel(AnswerId id, const std::string& why) {
  const Error error{ErrorCode::kCancelled, why, {}};
  bool found = false;
  for (const auto& answer : queue_.remove_if([&](const auto& waiting) { return waiting->id() == id; })) {
    answer->end(std::unexpected(error));
    found = true;
  }
  for (const auto& answer : running_) {
    if (answer->id() != id || answer->ended()) continue;
    answer->end(std::unexpected(error));
    found = true;
  }
  keep_looking();
  return found;
}

std::vector<AnswerRecord> Generator::answers() const {
  std::vector<AnswerRecord> records;
  for (const auto& answer : running_) {
    if (!answer->ended()) records.push_back(answer->record());
  }
  queue_.for_each([&](const auto& answer) { records.push_back(answer->record()); });
  return records;
}

void Generator::load(AnswerId id, std::optional<Duration> keep_alive, Loaded done) {
  if (loaders_.size() >= limits_.waiting + limits_.running) {
    return done(fail(ErrorCode::kNoCapacity, "too many wait for the model to be loaded: come back later"));
  }
  loaders_.push_back({id, now(), keep_alive, std::move(done)});
  admit();
}

void Generator::cancel_load(AnswerId id) {
  std::erase_if(loaders_, [&](const Loader& loader) { return loader.id == id; });
}

void Generator::admit() {
  forget_ended();
  if (!queue_.empty() || !loaders_.empty()) {
    const auto model = model_.ask();
    if (!model) {
      end_waiting(model.error());
    } else if (*model != nullptr) {
      admit_to(**model);
    }
  }
  keep_looking();
}

void Generator::admit_to(node::LoadedModel& model) {
  for (Loader& loader : std::exchange(loaders_, {})) {
    if (loader.keep_alive) model_.keep_alive(*loader.keep_alive);
    loader.done({});
  }
  while (!queue_.empty() && running_.size() < limits_.running) {
    const auto answer = queue_.front();
    const auto started = answer->try_start(model);
    if (!started && started.error().code == ErrorCode::kNoCapacity) break;
    queue_.pop();
    if (started) {
      running_.push_back(answer);
    } else {
      answer->end(std::unexpected(started.error()));
    }
  }
}

void Generator::forget_ended() {
  std::erase_if(running_, [](const auto& answer) { return answer->ended(); });
}

ServerLoad Generator::load_now() {
  forget_ended();
  ServerLoad load;
  load.loads = model_.loads();
  load.waiting = queue_.size();
  load.running = running_.size();
  load.scheduler = model_.scheduler_load();
  if (const node::LoadedModel* model = model_.loaded()) {
    const node::LoadedModel::Room room = model->room();
    load.free_cells = room.cells;
    load.kept_cells = room.kept_cells;
    load.all_cells = model->engine().options().context_tokens;
    load.loaded_models = 1;
    load.model_bytes = model_.bytes();
  }
  return load;
}

void Generator::keep_looking() {
  if (timer_.armed() || (queue_.empty() && running_.empty() && loaders_.empty())) return;
  timer_.start(Duration(kLookAgain), [this] { tick(); });
}

void Generator::tick() {
  // Whoever finds room now was not too late.
  admit();
  const TimePoint time = now();
  const bool is_loaded = model_.loaded() != nullptr;
  const Error late =
      is_loaded ? Error{ErrorCode::kNoCapacity, "there was no room for the answer in time: come back later", {}}
                : Error{ErrorCode::kUnavailable, "the model was not loaded in time: come back later", {}};
  const auto is_late = [&](TimePoint since) { return time - since > limits_.waiting_time; };
  const auto waited_too_long = [&](const auto& answer) {
    const bool sibling_runs =
        std::ranges::contains(running_, answer->group(), [](const auto& running) { return running->group(); });
    if (sibling_runs) answer->wait_anew(time);
    return is_late(answer->waits_since());
  };
  for (const auto& answer : queue_.remove_if(waited_too_long)) {
    answer->end(std::unexpected(late));
  }
  for (Loader& loader : loaders_) {
    if (is_late(loader.since)) std::exchange(loader.done, nullptr)(std::unexpected(late));
  }
  std::erase_if(loaders_, [](const Loader& loader) { return loader.done == nullptr; });
  for (const auto& answer : running_) {
    if (time - answer->started_at() > limits_.running_time) {
      answer->end(fail(ErrorCode::kTimeout, "the answer took too long"));
    }
  }
  keep_looking();
}

}  // namespace baton::serve
