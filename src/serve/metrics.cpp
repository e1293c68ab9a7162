#include "serve/metrics.h"

#include <algorithm>
#include <format>

namespace baton::serve {

namespace {

std::string header(std::string_view name, std::string_view help, std::string_view type) {
  return std::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

std::string single(std::string_view name, std::string_view help, std::string_view type, double value) {
  return header(name, help, type) + std::format("{} {}\n", name, value);
}

}  // namespace

void Histogram::add(double seconds) {
  const auto bound = std::ranges::lower_bound(kBounds_s, seconds);
  ++counts_[static_cast<std::size_t>(bound - kBounds_s.begin())];
  ++count_;
  sum_s_ += seconds;
}

std::string Histogram::to_text(const std::string& name, const std::string& help) const {
  std::string text = header(name, help, "histogram");
  std::uint64_t below = 0;
  for (std::size_t index = 0; index < kBounds_s.size(); ++index) {
    below += counts_[index];
    text += std::format("{}_bucket{{le=\"{}\"}} {}\n", name, kBounds_s[index], below);
  }
  text +=
      std::format("{}_bucket{{le=\"+Inf\"}} {}\n{}_sum {}\n{}_count {}\n", name, count_, name, sum_s_, name, count_);
  return text;
}

void Metrics::count_http(int status) {
  const std::lock_guard lock(mutex_);
  ++http_[status];
}

void Metrics::set_load(std::size_t waiting, std::size_t running, std::uint32_t free_cells, std::uint32_t all_cells,
                       const engine::SchedulerLoad& scheduler) {
  const std::lock_guard lock(mutex_);
  waiting_ = waiting;
  running_ = running;
  free_cells_ = free_cells;
  all_cells_ = all_cells;
  scheduler_ = scheduler;
}

void Metrics::count_answer(std::uint32_t prompt_tokens, std::uint32_t new_tokens, double queue_s, double first_token_s,
                           double decode_s) {
  const std::lock_guard lock(mutex_);
  ++answers_;
  prompt_tokens_ += prompt_tokens;
  new_tokens_ += new_tokens;
  queue_s_.add(queue_s);
  first_token_s_.add(first_token_s);
  if (new_tokens > 1) token_s_.add(decode_s / (new_tokens - 1));
}

void Metrics::count_failure(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  ++failures_[reason];
}

std::string Metrics::to_text() const {
  const std::lock_guard lock(mutex_);
  std::string text = header("baton_http_requests_total", "HTTP requests answered, by status.", "counter");
  for (const auto& [status, count] : http_) {
    text += std::format("baton_http_requests_total{{status=\"{}\"}} {}\n", status, count);
  }
  text += header("baton_answers_failed_total", "Answers that ended with an error, by its kind.", "counter");
  for (const auto& [reason, count] : failures_) {
    text += std::format("baton_answers_failed_total{{reason=\"{}\"}} {}\n", reason, count);
  }
  const auto add = [&](std::string_view name, std::string_view help, std::string_view type, auto value) {
    text += single(name, help, type, static_cast<double>(value));
  };
  add("baton_answers_total", "Answers that came to their end.", "counter", answers_);
  add("baton_prompt_tokens_total", "Prompt tokens of those answers.", "counter", prompt_tokens_);
  add("baton_generated_tokens_total", "Tokens generated for those answers.", "counter", new_tokens_);
  add("baton_answers_waiting", "Answers that wait for room.", "gauge", waiting_);
  add("baton_answers_running", "Answers that are being made.", "gauge", running_);
  add("baton_kv_cells_free", "Cells of the KV cache that are free.", "gauge", free_cells_);
  add("baton_kv_cells", "Cells of the KV cache in all.", "gauge", all_cells_);
  add("baton_step_batches_total", "Batches of decode steps computed.", "counter", scheduler_.step_batches);
  add("baton_steps_total", "Decode steps computed in those.", "counter", scheduler_.steps);
  add("baton_prefill_pieces_total", "Pieces of prefill computed.", "counter", scheduler_.chunk_pieces);
  text += queue_s_.to_text("baton_queue_seconds", "Time that answers waited for room.");
  text += first_token_s_.to_text("baton_first_token_seconds", "Time from the request to the first token.");
  text += token_s_.to_text("baton_token_seconds", "Mean time from token to token, by answer.");
  return text;
}

}  // namespace baton::serve
