#include "cli/run_printer.h"

#include <unistd.h>

#include <cstdio>
#include <format>

namespace baton::cli {

std::string recovery_text(const node::Recovery& recovery) {
  std::string text = recovery.error.to_string() + "; going on without it";
  if (recovery.replanned.nodes.size() > 1) text += " by " + recovery.replanned.to_string();
  if (recovery.salvaged_tokens == 0) return text;
  const std::string_view of = recovery.text_tokens > recovery.prompt_tokens ? "" : "prompt ";
  return text + std::format(", {} of the {} {}tokens are kept", recovery.salvaged_tokens, recovery.text_tokens, of);
}

RunPrinter::RunPrinter(const text::Vocabulary* vocabulary, OutputFormat format)
    : format_(format), shows_progress_(format == OutputFormat::kText && isatty(STDERR_FILENO) != 0) {
  if (vocabulary != nullptr) detokenizer_.emplace(*vocabulary, text::TextStart::kContinuation);
}

void RunPrinter::on_prefilled(std::uint32_t tokens, std::uint32_t of_tokens) {
  if (shows_progress_ && !progress_cleared_)
    std::fprintf(stderr, "\rreading the prompt: %u of %u tokens", tokens, of_tokens);
}

void RunPrinter::on_token(Token token) {
  clear_progress();
  emit(detokenizer_ ? detokenizer_->push(token) : std::format("{} ", token));
}

void RunPrinter::on_recovery(const node::Recovery& recovery) {
  clear_progress();
  // Not in the middle of the text's line.
  if (format_ == OutputFormat::kText && !text_.empty() && !text_.ends_with('\n')) remark("\n");
  std::fprintf(stderr, "baton: %s\n", recovery_text(recovery).c_str());
}

void RunPrinter::on_finished(Result<node::RequestReport> report) {
  clear_progress();
  if (detokenizer_) emit(detokenizer_->finish());
  // An error without a text before it needs no empty line.
  if (format_ == OutputFormat::kText && (report || !text_.empty())) emit("\n");
  if (!output_) report = std::unexpected(output_.error());
  report_ = std::move(report);
  when_done();
}

void RunPrinter::clear_progress() {
  if (shows_progress_ && !progress_cleared_) std::fputs("\r\033[K", stderr);
  progress_cleared_ = true;
}

void RunPrinter::emit(std::string_view piece) {
  text_ += piece;
  if (format_ == OutputFormat::kJson || !output_ || piece.empty()) return;
  output_ = print(piece);
  if (!output_) when_output_failed();
}

}  // namespace baton::cli
