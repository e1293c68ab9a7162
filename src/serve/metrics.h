// What happened so far, counted, and written as Prometheus reads it (its text exposition format, version 0.0.4).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "engine/batch_scheduler.h"

namespace baton::serve {

// Times, sorted into buckets.
class Histogram {
 public:
  static constexpr std::array kBounds_s = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0};

  void add(double seconds);
  std::string to_text(const std::string& name, const std::string& help) const;

 private:
  std::array<std::uint64_t, kBounds_s.size() + 1> counts_{};
  std::uint64_t count_ = 0;
  double sum_s_ = 0;
};

struct ServerLoad {
  std::size_t loaded_models = 0;
  std::uint64_t model_bytes = 0;  // that those take
  std::uint64_t loads = 0;        // so far
  std::size_t waiting = 0;
  std::size_t running = 0;
  std::uint32_t free_cells = 0;
  std::uint32_t kept_cells = 0;  // of those
  std::uint32_t all_cells = 0;
  engine::SchedulerLoad scheduler;

  // Of another model.
  ServerLoad& operator+=(const ServerLoad& other);
};

// An answer that came to its end.
struct AnswerFigures {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of those
  std::uint32_t new_tokens = 0;
  double queue_s = 0;
  double prefill_s = 0;      // from its start to its first token
  double first_token_s = 0;  // from the request
  double decode_s = 0;
  std::string plan_shape;  // as plan::Plan::shape() names it
};

// What crossed the network to this node for an answer.
struct TransferFigures {
  double exposed_s = 0;                                // for which the answer waited after the last computation
  std::map<std::string, std::uint64_t> payload_bytes;  // by the sending node's name
};

// Any thread.
class Metrics {
 public:
  void count_http(int status);
  void set_load(const ServerLoad& load);
  void count_answer(const AnswerFigures& answer);
  void count_transfer(const TransferFigures& transfer);
  void count_failure(const std::string& reason);
  // A text whose vector was made.
  void count_embedded(std::size_t tokens);

  std::string to_text() const;

 private:
  mutable std::mutex mutex_;
  std::map<int, std::uint64_t> http_;
  std::map<std::string, std::uint64_t> failures_;
  std::map<std::string, std::uint64_t> plans_;       // answers by the shape of their plan
  std::map<std::string, std::uint64_t> link_bytes_;  // by the sending node's name
  std::uint64_t answers_ = 0;
  std::uint64_t prompt_tokens_ = 0;
  std::uint64_t cached_tokens_ = 0;
  std::uint64_t new_tokens_ = 0;
  std::uint64_t embedded_texts_ = 0;
  std::uint64_t embedded_tokens_ = 0;
  ServerLoad load_;
  Histogram queue_s_;
  Histogram prefill_s_;
  Histogram exposed_s_;
  Histogram first_token_s_;
  Histogram token_s_;
};

}  // namespace baton::serve
