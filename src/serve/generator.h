// Answers of one model: has it loaded, waits for room, runs a node's request, and turns its tokens into text. Between
// the node, on whose loop all of this lives, and whoever asked, on another thread.
//
// An answer that finds no room, or its model not loaded, waits: clients take turns, nobody is overtaken, and cells that
// are short make a queue and no error. A full queue refuses with kNoCapacity, and so does one in which an answer has
// waited too long for room; kUnavailable says that the model was not there in time. Where it cannot be loaded, all that
// wait end with why.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/event_loop.h"
#include "node/model_pool.h"
#include "serve/answer_book.h"
#include "serve/answer_planner.h"
#include "serve/fair_queue.h"
#include "serve/metrics.h"
#include "serve/stop_finder.h"
#include "text/detokenizer.h"

namespace baton::serve {

struct ScoredToken {
  Token token = 0;
  std::string bytes;
  float logprob = 0;  // of the model's own distribution, before temperature and filters
};

// A function that the model calls. `arguments` is a JSON object.
struct FunctionCall {
  std::string id;
  std::string name;
  std::string arguments;
};

// Text that has become certain, and the tokens that end in it where their scores were asked for. A generator gives text
// alone; thoughts and calls are told apart later.
struct Piece {
  struct Score {
    ScoredToken chosen;
    std::vector<ScoredToken> top;  // likeliest first
  };
  std::string text;
  std::vector<Score> scores = {};
  std::string reasoning = {};
  std::vector<FunctionCall> calls = {};
};

enum class EndReason {
  kEndOfText,  // the model said so
  kStopText,
  kLength,  // no more tokens were asked for
  kCalls,   // as kEndOfText, and functions are called
};

struct AnswerEnd {
  EndReason reason = EndReason::kEndOfText;
  std::string stop_text;  // with kStopText
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of those, kept from earlier answers
  std::uint32_t new_tokens = 0;
  double queue_s = 0;
  double prefill_s = 0;  // from its start to its first token
  double decode_s = 0;
  std::string shape = {};                       // of the plan it began by
  std::string plan = {};                        // that plan, as Plan::to_string() has it
  std::vector<node::Recovery> recoveries = {};  // machines of it that were lost, and how it went on
};

struct AnswerRequest {
  std::string client;         // whose turn it is
  std::string model = {};     // as it is called; this and the next are for AnswerRecord alone
  std::string endpoint = {};  // where it was asked for
  std::uint64_t group = 0;    // answers to one request share it: while one of them is written, the others may wait
  node::RequestOptions request;
  std::vector<std::string> stops;
  std::vector<Token> marks;                           // control tokens that are to be seen in the text, by their names
  std::optional<std::uint32_t> top_logprobs;          // 0: of the chosen token alone
  std::optional<Duration> keep_alive = std::nullopt;  // of the model from now on, where the client says so
};

// Called on the node's loop, in this order; on_end() exactly once, also without on_begun(). With an error the text ends
// where it is.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  virtual void on_begun() = 0;
  virtual void on_piece(Piece piece) = 0;
  virtual void on_end(Result<AnswerEnd> end) = 0;
};

struct GeneratorLimits {
  std::size_t running = 8;   // answers at once
  std::size_t waiting = 64;  // more are refused
  Duration waiting_time = std::chrono::seconds(120);
  Duration running_time = std::chrono::minutes(30);
};

class Generator {
 public:
  // All must outlive it; it lives on the loop's thread. Without a planner requests run as they are.
  Generator(net::EventLoop& loop, node::PooledModel& model, const text::Vocabulary& vocabulary, GeneratorLimits limits,
            Metrics& metrics, AnswerBook& book, AnswerPlanner* planner = nullptr);
  // Ends every answer with kCancelled.
  ~Generator();
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  using AnswerId = std::uint64_t;
  // The sink hears of it later, never inside this call.
  void start(AnswerId id, AnswerRequest request, std::shared_ptr<AnswerSink> sink);
  // The answer ends with kCancelled, its cells are free within one step. False, and nothing, where there is none.
  bool cancel(AnswerId id, const std::string& why);
  // Has the model loaded, and calls back when it is, with an error where it cannot be or is not in time. The id is of
  // the same kind as the answers'.
  using Loaded = std::move_only_function<void(Result<void>)>;
  void load(AnswerId id, std::optional<Duration> keep_alive, Loaded done);
  // It is not called back any more.
  void cancel_load(AnswerId id);
  // How things are now.
  ServerLoad load_now();
  // Of all answers that have not ended; those that have are in the book.
  std::vector<AnswerRecord> answers() const;
  node::PooledModel& model() { return model_; }

 private:
  class Answer;

  // A client that wants the model and no answer.
  struct Loader {
    AnswerId id = 0;
    TimePoint since;
    std::optional<Duration> keep_alive;
    Loaded done;
  };

  void admit();
  void admit_to(node::LoadedModel& model);
  void end_waiting(const Error& error);
  void keep_looking();
  void tick();
  void forget_ended();

  net::EventLoop& loop_;
  node::PooledModel& model_;
  const text::Vocabulary& vocabulary_;
  const GeneratorLimits limits_;
  Metrics& metrics_;
  AnswerBook& book_;
  AnswerPlanner* const planner_;
  FairQueue<std::shared_ptr<Answer>> queue_;
  std::vector<std::shared_ptr<Answer>> running_;
  std::vector<Loader> loaders_;
  net::Timer timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace baton::serve
