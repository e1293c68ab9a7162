// Vectors of texts, computed beside the answers: each text is read as a prompt is, in pieces between the steps of
// running streams, and leaves nothing in the KV cache. Requests take turns, text by text. Their model is loaded where
// it is not, and they wait for that as answers do.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "engine/pooling.h"
#include "net/event_loop.h"
#include "node/model_pool.h"
#include "serve/metrics.h"

namespace baton::serve {

struct EmbedRequest {
  std::vector<std::vector<Token>> texts;  // none is empty
  engine::Pooling pooling = engine::Pooling::kLast;
  std::optional<Duration> keep_alive = std::nullopt;  // of the model from now on, where the client says so
};

// Of each text, embedding_width values; not normalised.
using Vectors = std::vector<std::vector<float>>;

struct EmbedderLimits {
  std::size_t waiting = 64;                           // requests; more are refused
  Duration waiting_time = std::chrono::seconds(120);  // for the model, and for room for a text
};

// Lives on the loop's thread; the model must outlive it.
class Embedder : public std::enable_shared_from_this<Embedder> {
 public:
  using Id = std::uint64_t;
  using Done = std::move_only_function<void(Result<Vectors>)>;

  static std::shared_ptr<Embedder> create(net::EventLoop& loop, node::PooledModel& model, EmbedderLimits limits,
                                          Metrics& metrics);
  // Ends every request with kUnavailable.
  ~Embedder();

  // Calls back on the loop's thread: kNoCapacity, at once, where too many wait, or later where a text found no room in
  // time; kUnavailable where the model was not there in time.
  void start(Id id, EmbedRequest request, Done done);
  // It is not called back any more; its cells are free within one layer of work.
  void cancel(Id id);

 private:
  struct Job;
  class Text;
  class Piece;

  Embedder(net::EventLoop& loop, node::PooledModel& model, EmbedderLimits limits, Metrics& metrics);
  void go_on();
  Result<std::shared_ptr<Text>> begin_text(node::LoadedModel& model, const Job& job);
  void on_text_done(const Result<void>& result);
  void end_front(Result<Vectors> result);

  net::EventLoop& loop_;
  node::PooledModel& model_;
  const EmbedderLimits limits_;
  Metrics& metrics_;
  std::deque<std::unique_ptr<Job>> jobs_;  // the first one's next text is under way, or is the next to be
  std::shared_ptr<Text> text_;             // under way; null: none
  net::Timer timer_;
};

}  // namespace baton::serve
