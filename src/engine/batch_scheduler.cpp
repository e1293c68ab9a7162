#include "engine/batch_scheduler.h"

#include <algorithm>
#include <numeric>

#include "plan/time_slice.h"

namespace baton::engine {

namespace {

// Chunks in the executor's queue where nobody steps: one computes while the next waits.
constexpr std::size_t kWholeChunksUnderWay = 2;

std::unexpected<Error> cancelled() { return fail(ErrorCode::kCancelled, "the request was cancelled"); }

class Watcher : public LayerObserver {
 public:
  using OnLayer = std::function<Next(std::uint32_t)>;
  explicit Watcher(OnLayer on_layer) : on_layer_(std::move(on_layer)) {}
  Next layer_done(std::uint32_t layer) override { return on_layer_(layer); }

 private:
  OnLayer on_layer_;
};

std::optional<EmulationReport> take_report(Engine& engine) {
  const auto report = engine.emulation_report();
  engine.reset_emulation_report();
  return report;
}

void add(std::optional<EmulationReport>& sum, const std::optional<EmulationReport>& part) {
  if (!part) return;
  if (!sum) sum.emplace();
  sum->emulated += part->emulated;
  sum->overrun += part->overrun;
}

}  // namespace

SchedulerLoad& SchedulerLoad::operator+=(const SchedulerLoad& other) {
  waiting_steps += other.waiting_steps;
  waiting_chunks += other.waiting_chunks;
  step_batches += other.step_batches;
  steps += other.steps;
  chunk_pieces += other.chunk_pieces;
  return *this;
}

std::shared_ptr<BatchScheduler> BatchScheduler::create(Executor& executor, Post post, std::function<TimePoint()> now) {
  return std::shared_ptr<BatchScheduler>(new BatchScheduler(executor, std::move(post), std::move(now)));
}

BatchScheduler::BatchScheduler(Executor& executor, Post post, std::function<TimePoint()> now)
    : executor_(&executor), post_(std::move(post)), now_(std::move(now)) {}

void BatchScheduler::submit(std::shared_ptr<ScheduledPass> pass) {
  if (executor_ == nullptr) return end_later(std::move(pass), {ErrorCode::kCancelled, "the node is shutting down", {}});
  if (pass->kind == ScheduledPass::Kind::kStep) {
    steps_.push_back(std::move(pass));
  } else {
    auto chunk = std::make_unique<Chunk>();
    chunk->next_layer = pass->layers.begin;
    chunk->hidden = std::move(pass->hidden_in);
    chunk->pass = std::move(pass);
    chunks_.push_back(std::move(chunk));
  }
  pump();
}

void BatchScheduler::close() {
  executor_ = nullptr;
  const Error error{ErrorCode::kCancelled, "the node is shutting down", {}};
  for (auto& pass : std::exchange(steps_, {})) end_later(std::move(pass), error);
  for (auto& chunk : std::exchange(chunks_, {})) end_later(std::move(chunk->pass), error);
}

void BatchScheduler::end_later(std::shared_ptr<ScheduledPass> pass, const Error& error) {
  post_([self = shared_from_this(), pass = std::move(pass), error] {
    pass->on_done(std::unexpected(error), std::nullopt);
  });
}

SchedulerLoad BatchScheduler::load() const {
  SchedulerLoad load = load_;
  load.waiting_steps = steps_.size();
  load.waiting_chunks = chunks_.size();
  return load;
}

bool BatchScheduler::steps_are_coming() const {
  if (steps_under_way_ || !steps_.empty()) return true;
  const auto last_step = executor_->thread().last_step();
  return last_step && now_() - *last_step < kStepsAreComing;
}

void BatchScheduler::drop_cancelled() {
  std::erase_if(steps_, [&](auto& pass) {
    if (!pass->cancelled()) return false;
    end_later(std::move(pass), cancelled().error());
    return true;
  });
  std::erase_if(chunks_, [&](auto& chunk) {
    if (!chunk->pass->cancelled()) return false;
    end_later(std::move(chunk->pass), cancelled().error());
    return true;
  });
}

// While results are handed out nothing is chosen: the streams of one batch ask for their next steps one by one, and
// these belong into one batch again.
void BatchScheduler::pump() {
  if (delivering_ || executor_ == nullptr) return;
  drop_cancelled();
  if (!steps_under_way_ && !steps_.empty()) run_steps();
  while (!chunks_.empty() && pieces_under_way_ < (part_under_way_ || steps_are_coming() ? 1 : kWholeChunksUnderWay)) {
    run_piece();
  }
}

std::unique_ptr<BatchScheduler::StepBatch> BatchScheduler::choose_steps() {
  auto batch = std::make_unique<StepBatch>();
  const LayerRange layers = steps_.front()->layers;
  const std::uint32_t most_rows = std::min(kMostStepRows, executor_->engine().options().max_chunk_tokens);
  std::uint32_t rows = 0;
  std::deque<std::shared_ptr<ScheduledPass>> later;
  for (auto& pass : std::exchange(steps_, {})) {
    const auto same_sequence = [&](const auto& chosen) { return chosen->span.sequence == pass->span.sequence; };
    const bool fits = batch->passes.empty() || (pass->layers == layers && rows + pass->span.token_count <= most_rows &&
                                                std::ranges::none_of(batch->passes, same_sequence));
    if (fits) {
      rows += pass->span.token_count;
      batch->passes.push_back(std::move(pass));
    } else {
      later.push_back(std::move(pass));
    }
  }
  steps_ = std::move(later);
  return batch;
}

void BatchScheduler::run_steps() {
  auto batch = choose_steps();
  batch->logits = std::move(spare_logits_);
  ++load_.step_batches;
  load_.steps += batch->passes.size();
  const auto passes = batch->passes;
  const auto submitted = executor_->submit(
      [self = shared_from_this(), batch = std::move(batch)](Engine& engine, const std::stop_token& stop) mutable {
        batch->began = self->now_();
        compute(*batch, engine, stop);
        BatchScheduler& scheduler = *self;
        scheduler.post_(
            [self = std::move(self), batch = std::move(batch)]() mutable { self->on_steps_done(std::move(batch)); });
      });
  if (submitted) {
    steps_under_way_ = true;
  } else {
    for (const auto& pass : passes) end_later(pass, submitted.error());
  }
}

void BatchScheduler::compute(StepBatch& batch, Engine& engine, const std::stop_token& stop) {
  batch.results.assign(batch.passes.size(), Result<void>());
  std::vector<std::size_t> chosen;
  for (std::size_t index = 0; index < batch.passes.size(); ++index) {
    if (stop.stop_requested() || batch.passes[index]->cancelled()) {
      batch.results[index] = cancelled();
    } else {
      batch.passes[index]->on_begun();
      chosen.push_back(index);
    }
  }
  if (chosen.empty()) return;
  const auto done = compute_together(batch.passes, chosen, batch.logits, engine, stop);
  for (const std::size_t index : chosen) batch.results[index] = done;
  // A batch is checked as a whole before anything is computed: what makes no sense is found by asking one by one.
  const bool refused =
      !done && (done.error().code == ErrorCode::kInvalidArgument || done.error().code == ErrorCode::kNotFound);
  if (refused && chosen.size() > 1) {
    batch.logits_alone.resize(batch.passes.size());
    for (const std::size_t index : chosen) {
      batch.results[index] = compute_together(batch.passes, {&index, 1}, batch.logits_alone[index], engine, stop);
    }
  }
  batch.emulation = take_report(engine);
}

Result<void> BatchScheduler::compute_together(const Passes& passes, std::span<const std::size_t> chosen,
                                              std::vector<float>& logits, Engine& engine, const std::stop_token& stop) {
  const std::size_t width = engine.shape().embedding_width;
  const LayerRange layers = passes[chosen.front()]->layers;
  const bool ends_model = layers.end == engine.shape().layer_count;
  std::vector<BatchSpan> spans;
  std::vector<Token> tokens;
  std::vector<float> hidden_in;
  std::size_t rows = 0;
  for (const std::size_t index : chosen) {
    const ScheduledPass& pass = *passes[index];
    spans.push_back(pass.span);
    tokens.insert(tokens.end(), pass.tokens.begin(), pass.tokens.end());
    hidden_in.insert(hidden_in.end(), pass.hidden_in.begin(), pass.hidden_in.end());
    rows += pass.span.token_count;
  }
  std::vector<float> hidden_out(ends_model ? 0 : rows * width);
  logits.resize(std::size_t{logit_rows(spans)} * engine.shape().vocabulary_size);
  Watcher watcher([&](std::uint32_t layer) {
    bool wanted = false;
    for (const std::size_t index : chosen) {
      ScheduledPass& pass = *passes[index];
      if (pass.cancelled()) continue;
      wanted = true;
      pass.on_layer_done(layer);
    }
    return wanted && !stop.stop_requested() ? LayerObserver::Next::kContinue : LayerObserver::Next::kStop;
  });
  TRY(engine.forward({.layers = layers, .spans = spans, .tokens = tokens, .hidden = hidden_in},
                     {.hidden = hidden_out, .logits = logits}, &watcher));
  std::size_t logits_at = 0;
  std::size_t hidden_at = 0;
  for (const std::size_t index : chosen) {
    ScheduledPass& pass = *passes[index];
    const std::size_t values = std::size_t{logit_rows({&pass.span, 1})} * engine.shape().vocabulary_size;
    pass.logits = std::span<const float>(logits).subspan(logits_at, values);
    logits_at += values;
    if (ends_model) continue;
    const auto from = hidden_out.begin() + static_cast<std::ptrdiff_t>(hidden_at);
    hidden_at += pass.span.token_count * width;
    pass.hidden_out.assign(from, hidden_out.begin() + static_cast<std::ptrdiff_t>(hidden_at));
  }
  return {};
}

void BatchScheduler::on_steps_done(std::unique_ptr<StepBatch> batch) {
  steps_under_way_ = false;
  const TimePoint ended = now_();
  step_time_ = ended - batch->began;
  if (executor_ != nullptr) executor_->thread().note_step(ended);
  delivering_ = true;
  for (std::size_t index = 0; index < batch->passes.size(); ++index) {
    ScheduledPass& pass = *batch->passes[index];
    // Cancelled while it was computed beside others: nobody wants what came of it.
    if (batch->results[index] && pass.cancelled()) batch->results[index] = cancelled();
    pass.on_done(batch->results[index], batch->emulation);
    pass.logits = {};
  }
  delivering_ = false;
  spare_logits_ = std::move(batch->logits);
  pump();
}

std::uint32_t BatchScheduler::chunk_now(std::uint32_t tokens) const {
  if (executor_ == nullptr || row_time_ <= Duration::zero() || !steps_are_coming()) return tokens;
  const auto fit = std::max<std::int64_t>(plan::piece_time(step_time_) / row_time_, kLeastChunkTokens);
  if (tokens <= fit) return tokens;
  // Parts of like size: a small rest would take almost as long as a whole one.
  const std::int64_t parts = std::clamp<std::int64_t>((tokens + fit - 1) / fit, 1, tokens / kLeastChunkTokens);
  return static_cast<std::uint32_t>((tokens + parts - 1) / parts);
}

void BatchScheduler::put_first_who_is_due_first() {
  // What has begun goes on.
  if (chunks_.front()->next_layer > chunks_.front()->pass->layers.begin) return;
  const auto due = [&](const std::unique_ptr<Chunk>& chunk) {
    const ScheduledPass& pass = *chunk->pass;
    return pass.prompt_came + row_time_ * pass.prompt_tokens * pass.layers.size();
  };
  const auto first = std::ranges::min_element(chunks_, {}, due);
  std::rotate(chunks_.begin(), first, first + 1);
}

void BatchScheduler::run_piece() {
  put_first_who_is_due_first();
  std::unique_ptr<Chunk> chunk = std::move(chunks_.front());
  chunks_.pop_front();
  const LayerRange layers = chunk->pass->layers;
  std::uint32_t count = layers.end - chunk->next_layer;
  if (steps_are_coming()) {
    const auto fit = chunk->layer_time > Duration::zero() ? plan::piece_time(step_time_) / chunk->layer_time : 1;
    count = std::min(count, static_cast<std::uint32_t>(std::clamp<std::int64_t>(fit, 1, layers.size())));
  }
  chunk->end_layer = chunk->next_layer + count;
  const bool part = chunk->end_layer < layers.end;
  ++load_.chunk_pieces;
  const auto pass = chunk->pass;
  const auto submitted = executor_->submit(
      [self = shared_from_this(), chunk = std::move(chunk)](Engine& engine, const std::stop_token& stop) mutable {
        compute(*chunk, engine, stop, self->now_);
        BatchScheduler& scheduler = *self;
        scheduler.post_(
            [self = std::move(self), chunk = std::move(chunk)]() mutable { self->on_piece_done(std::move(chunk)); });
      });
  if (submitted) {
    ++pieces_under_way_;
    part_under_way_ = part;
  } else {
    end_later(pass, submitted.error());
  }
}

void BatchScheduler::compute(Chunk& chunk, Engine& engine, const std::stop_token& stop,
                             const std::function<TimePoint()>& now) {
  ScheduledPass& pass = *chunk.pass;
  const auto unwanted = [&] { return stop.stop_requested() || pass.cancelled(); };
  if (unwanted()) {
    chunk.result = cancelled();
    return;
  }
  if (chunk.next_layer == pass.layers.begin) pass.on_begun();
  const TimePoint began = now();
  const LayerRange layers{chunk.next_layer, chunk.end_layer};
  const bool ends_model = layers.end == engine.shape().layer_count;
  BatchSpan span = pass.span;
  if (!ends_model) span.logits = WantedLogits::kNone;
  std::vector<float> hidden(ends_model ? 0 : std::size_t{span.token_count} * engine.shape().embedding_width);
  chunk.logits.resize(std::size_t{logit_rows({&span, 1})} * head_width(engine.shape(), pass.head));
  Watcher watcher([&](std::uint32_t layer) {
    if (unwanted()) return LayerObserver::Next::kStop;
    pass.on_layer_done(layer);
    return LayerObserver::Next::kContinue;
  });
  const std::span<const Token> tokens =
      layers.begin == 0 ? std::span<const Token>(pass.tokens) : std::span<const Token>();
  chunk.result = engine.forward(
      {.layers = layers, .spans = {&span, 1}, .tokens = tokens, .hidden = chunk.hidden, .head = pass.head},
      {.hidden = hidden, .logits = chunk.logits}, &watcher);
  chunk.layer_time = (now() - began) / layers.size();
  chunk.hidden = std::move(hidden);
  chunk.next_layer = layers.end;
  add(chunk.emulation, take_report(engine));
}

void BatchScheduler::on_piece_done(std::unique_ptr<Chunk> chunk) {
  --pieces_under_way_;
  part_under_way_ = false;
  ScheduledPass& pass = *chunk->pass;
  if (chunk->result && pass.span.token_count >= kLeastChunkTokens / 2)
    row_time_ = chunk->layer_time / pass.span.token_count;
  if (chunk->result && chunk->next_layer < pass.layers.end && executor_ != nullptr) {
    chunks_.push_front(std::move(chunk));
    return pump();
  }
  if (chunk->result && chunk->next_layer < pass.layers.end) chunk->result = cancelled();
  pass.hidden_out = std::move(chunk->hidden);
  pass.logits = chunk->logits;
  delivering_ = true;
  pass.on_done(chunk->result, chunk->emulation);
  delivering_ = false;
  pass.logits = {};
  pump();
}

}  // namespace baton::engine
