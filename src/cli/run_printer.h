// What a person sees of a request under way.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cli/text_output.h"
#include "node/request.h"
#include "text/detokenizer.h"

namespace baton::cli {

// Which node failed why, and how much of its work is kept, in a sentence without an end.
std::string recovery_text(const node::Recovery& recovery);

// Streams the text to standard output as it is made (with kJson it only collects it), and shows on a terminal how far
// the prompt is. Called on the loop's thread, as every observer; `vocabulary` (null: tokens are printed as numbers)
// must outlive it.
class RunPrinter : public node::RequestObserver {
 public:
  RunPrinter(const text::Vocabulary* vocabulary, OutputFormat format);

  // Set both before the request starts. The request has ended, well or not:
  std::function<void()> when_done;
  // Nobody reads on, or the disk is full; called in the middle of on_token().
  std::function<void()> when_output_failed;

  // After when_done: how the request ended, or why its text could not be written.
  const std::optional<Result<node::RequestReport>>& report() const { return report_; }
  const std::string& text() const { return text_; }

  void on_prefilled(std::uint32_t tokens, std::uint32_t of_tokens) override;
  void on_token(Token token) override;
  void on_recovery(const node::Recovery& recovery) override;
  void on_finished(Result<node::RequestReport> report) override;

 private:
  void clear_progress();
  void emit(std::string_view piece);

  const OutputFormat format_;
  const bool shows_progress_;
  bool progress_cleared_ = false;
  std::optional<text::Detokenizer> detokenizer_;
  std::string text_;
  Result<void> output_;
  std::optional<Result<node::RequestReport>> report_;
};

}  // namespace baton::cli
