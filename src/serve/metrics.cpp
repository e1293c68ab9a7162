#include "serve/metrics.h"

#include <algorithm>
#include <format>

namespace baton::serve {

namespace {

std::string header(std::string_view name, std::string_view help, std::string_view type) {
  return std::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

// As the exposition format escapes it.
std::string label_value(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '"' || c == '\\') escaped += '\\';
    if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string single(std::string_view name, std::string_view help, std::string_view type, double value) {
  return header(name, help, type) + std::format("{} {}\n", name, value);
}

}  // namespace

ServerLoad& ServerLoad::operator+=(const ServerLoad& other) {
  loaded_models += other.loaded_models;
  model_bytes += other.model_bytes;
  loads += other.loads;
  waiting += other.waiting;
  running += other.running;
  free_cells += other.free_cells;
  kept_cells += other.kept_cells;
  all_cells += other.all_cells;
  scheduler += other.scheduler;
  return *this;
}

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

void Metrics::set_load(const ServerLoad& load) {
  const std::lock_guard lock(mutex_);
  load_ = load;
}

void Metrics::count_answer(const AnswerFigures& answer) {
  const std::lock_guard lock(mutex_);
  ++answers_;
  prompt_tokens_ += answer.prompt_tokens;
  cached_tokens_ += answer.cached_tokens;
  new_tokens_ += answer.new_tokens;
  ++plans_[answer.plan_shape];
  queue_s_.add(answer.queue_s);
  prefill_s_.add(answer.prefill_s);
  first_token_s_.add(answer.first_token_s);
  if (answer.new_tokens > 1) token_s_.add(answer.decode_s / (answer.new_tokens - 1));
}

void Metrics::count_transfer(const TransferFigures& transfer) {
  const std::lock_guard lock(mutex_);
  exposed_s_.add(transfer.exposed_s);
  for (const auto& [node, bytes] : transfer.payload_bytes) link_bytes_[node] += bytes;
}

void Metrics::count_failure(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  ++failures_[reason];
}

void Metrics::count_embedded(std::size_t tokens) {
  const std::lock_guard lock(mutex_);
  ++embedded_texts_;
  embedded_tokens_ += tokens;
}

std::string Metrics::to_text() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  const auto add_by = [&](std::string_view name, std::string_view help, std::string_view label, const auto& counts) {
    text += header(name, help, "counter");
    for (const auto& [value, count] : counts) {
      text += std::format("{}{{{}=\"{}\"}} {}\n", name, label, label_value(std::format("{}", value)), count);
    }
  };
  add_by("baton_http_requests_total", "HTTP requests answered, by status.", "status", http_);
  add_by("baton_answers_failed_total", "Answers that ended with an error, by its kind.", "reason", failures_);
  add_by("baton_answers_by_plan_total", "Answers that came to their end, by the shape of their plan.", "plan", plans_);
  add_by("baton_received_bytes_total", "Bytes of KV and hidden states received for this node's answers, by sender.",
         "node", link_bytes_);
  const auto add = [&](std::string_view name, std::string_view help, std::string_view type, auto value) {
    text += single(name, help, type, static_cast<double>(value));
  };
  add("baton_answers_total", "Answers that came to their end.", "counter", answers_);
  add("baton_prompt_tokens_total", "Prompt tokens of those answers.", "counter", prompt_tokens_);
  add("baton_prompt_tokens_cached_total", "Of those prompt tokens, kept from earlier answers.", "counter",
      cached_tokens_);
  add("baton_generated_tokens_total", "Tokens generated for those answers.", "counter", new_tokens_);
  add("baton_embedded_texts_total", "Texts whose vectors were made.", "counter", embedded_texts_);
  add("baton_embedded_tokens_total", "Tokens of those texts.", "counter", embedded_tokens_);
  add("baton_models_loaded", "Models that are loaded now.", "gauge", load_.loaded_models);
  add("baton_model_bytes", "Memory that those take.", "gauge", load_.model_bytes);
  add("baton_model_loads_total", "Models loaded, and loaded again, so far.", "counter", load_.loads);
  add("baton_answers_waiting", "Answers that wait for room or for their model.", "gauge", load_.waiting);
  add("baton_answers_running", "Answers that are being made.", "gauge", load_.running);
  add("baton_kv_cells_free", "Cells of the KV cache that an answer could have now.", "gauge", load_.free_cells);
  add("baton_kv_cells_kept", "Of those, cells that hold texts of ended answers until then.", "gauge", load_.kept_cells);
  add("baton_kv_cells", "Cells of the KV cache in all.", "gauge", load_.all_cells);
  add("baton_step_batches_total", "Batches of decode steps computed.", "counter", load_.scheduler.step_batches);
  add("baton_steps_total", "Decode steps computed in those.", "counter", load_.scheduler.steps);
  add("baton_prefill_pieces_total", "Pieces of prefill computed.", "counter", load_.scheduler.chunk_pieces);
  text += queue_s_.to_text("baton_queue_seconds", "Time that answers waited for room.");
  text += prefill_s_.to_text("baton_prefill_seconds", "Time from an answer's start to its first token.");
  text += exposed_s_.to_text("baton_exposed_transfer_seconds",
                             "Time that answers waited for the network after the last computation of their prompt.");
  text += first_token_s_.to_text("baton_first_token_seconds", "Time from the request to the first token.");
  text += token_s_.to_text("baton_token_seconds", "Mean time from token to token, by answer.");
  return text;
}

}  // namespace baton::serve
