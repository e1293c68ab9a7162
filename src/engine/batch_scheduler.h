// What the device computes next, where several sequences want something: the steps of all streams that are ready go
// into one batch, and between two such batches comes a piece of somebody's prefill.
//
// A piece is a chunk's next layers, as many as fit into the time that plan::piece_time() gives one after the last batch
// of steps, at least one: so a stream that is being written waits no longer for its next token than one piece and one
// batch of steps. That a single layer is not longer, its chunk must be small enough: chunk_now(). As a chunk is cut
// between layers and never between tokens, it has the same bits as one that ran alone; and so has a step, where
// Engine::steps_exactly(). Where nobody steps on the device, with this model or another, chunks run whole, and the next
// waits in the executor's queue, so that the device never idles. The first step of a stream that ends such a time waits
// for those two chunks.
//
// Of the chunks that wait, that one comes first whose prompt would have been read first had it begun alone when it
// came: so a short prompt passes a long one that has not had its own time yet, and a long one waits for no more than
// the short ones that came within that time. Steps come in the order in which they were asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "engine/executor.h"

namespace baton::engine {

// One sequence's pass over its layers, as its owner asks for it: who derives from it adds what it wants to know later.
class ScheduledPass {
 public:
  enum class Kind { kStep, kChunk };

  virtual ~ScheduledPass() = default;

  Kind kind = Kind::kStep;
  LayerRange layers;
  BatchSpan span;
  HeadResult head = HeadResult::kLogits;  // of a chunk
  TimePoint prompt_came;                  // of a chunk, and
  std::uint32_t prompt_tokens = 0;        // how many of its prompt were to be read then
  std::vector<Token> tokens;              // of the span, where layers.begin is 0
  std::vector<float> hidden_in;           // else its activations
  std::vector<float> hidden_out;          // made where layers.end is not the last layer's
  std::span<const float> logits;  // made else, the rows that the span wants (`head`); good until on_done() returns

  // Any thread, before the pass and between layers. What is cancelled ends with kCancelled.
  virtual bool cancelled() const = 0;
  // On the executor's thread.
  virtual void on_begun() = 0;
  virtual void on_layer_done(std::uint32_t layer) = 0;
  // On the owner's thread, exactly once. May submit passes.
  virtual void on_done(const Result<void>& result, const std::optional<EmulationReport>& emulation) = 0;
};

struct SchedulerLoad {
  std::size_t waiting_steps = 0;
  std::size_t waiting_chunks = 0;
  std::uint64_t step_batches = 0;  // so far
  std::uint64_t steps = 0;         // in those
  std::uint64_t chunk_pieces = 0;  // so far

  // Of another scheduler.
  SchedulerLoad& operator+=(const SchedulerLoad& other);
};

// Lives on its owner's thread, to which `post` brings everything back. After close() it needs no executor any more.
class BatchScheduler : public std::enable_shared_from_this<BatchScheduler> {
 public:
  // Of a chunk: fewer tokens are not worth reading the weights for.
  static constexpr std::uint32_t kLeastChunkTokens = 128;
  // Rows of a batch of steps: more wait for the next.
  static constexpr std::uint32_t kMostStepRows = 64;
  // So long after a step it is taken for certain that more are coming.
  static constexpr auto kStepsAreComing = std::chrono::seconds(1);

  using Post = std::function<void(std::move_only_function<void()>)>;
  static std::shared_ptr<BatchScheduler> create(Executor& executor, Post post, std::function<TimePoint()> now);

  void submit(std::shared_ptr<ScheduledPass> pass);
  // Of so many tokens of a prompt, how many are to be its next chunk, where its owner may choose: all, but while steps
  // are coming so few that a layer of them fits into a piece, by what the last chunk's took.
  std::uint32_t chunk_now(std::uint32_t tokens) const;
  // Everything that has not begun ends with kCancelled, and the executor is not asked again.
  void close();

  SchedulerLoad load() const;

 private:
  // A chunk under way: its layers before `next_layer` are done.
  struct Chunk {
    std::shared_ptr<ScheduledPass> pass;
    std::uint32_t next_layer = 0;
    std::uint32_t end_layer = 0;  // of the piece that is under way
    std::vector<float> hidden;    // behind next_layer
    std::vector<float> logits;
    Duration layer_time{};  // as measured last
    std::optional<EmulationReport> emulation;
    Result<void> result;
  };
  using Passes = std::vector<std::shared_ptr<ScheduledPass>>;
  struct StepBatch {
    Passes passes;
    std::vector<float> logits;
    std::vector<std::vector<float>> logits_alone;  // where they could not be computed together
    std::vector<Result<void>> results;
    std::optional<EmulationReport> emulation;
    TimePoint began;
  };

  BatchScheduler(Executor& executor, Post post, std::function<TimePoint()> now);

  void pump();
  void drop_cancelled();
  bool steps_are_coming() const;
  void run_steps();
  void run_piece();
  void put_first_who_is_due_first();
  std::unique_ptr<StepBatch> choose_steps();
  void on_steps_done(std::unique_ptr<StepBatch> batch);
  void on_piece_done(std::unique_ptr<Chunk> chunk);
  void end_later(std::shared_ptr<ScheduledPass> pass, const Error& error);

  // On the executor's thread.
  static void compute(StepBatch& batch, Engine& engine, const std::stop_token& stop);
  static Result<void> compute_together(const Passes& passes, std::span<const std::size_t> chosen,
                                       std::vector<float>& logits, Engine& engine, const std::stop_token& stop);
  static void compute(Chunk& chunk, Engine& engine, const std::stop_token& stop, const std::function<TimePoint()>& now);

  Executor* executor_;  // null once closed
  const Post post_;
  const std::function<TimePoint()> now_;
  std::deque<std::shared_ptr<ScheduledPass>> steps_;
  std::deque<std::unique_ptr<Chunk>> chunks_;
  bool steps_under_way_ = false;
  std::size_t pieces_under_way_ = 0;
  bool part_under_way_ = false;  // the piece under way does not end its chunk, so no other may follow it
  bool delivering_ = false;
  Duration step_time_{};             // of the last batch
  Duration row_time_{};              // of one token in one layer of the last chunk
  std::vector<float> spare_logits_;  // kept, as fresh memory of that size costs more than it holds
  SchedulerLoad load_;
};

}  // namespace baton::engine
