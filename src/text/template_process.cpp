#include "text/template_process.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <format>

#include "text/utf8.h"

namespace baton::text {
namespace {

// By the clock, for a machine that is busy with other things: the computing itself is bounded in the process.
constexpr auto kAnswerTimeout = std::chrono::seconds(30);
constexpr int kOfSignal = 128;

// What a template did that ended its process.
std::string describe_end(int status, std::size_t seconds) {
  switch (status) {
    case kTemplateMemoryStatus: return std::format("it takes more than {} MiB of memory", kTemplateMemoryBytes >> 20);
    case kOfSignal + SIGPROF: return std::format("it does not come to an end within {} seconds", seconds);
    case kOfSignal + SIGFPE: return "it divides by zero";
    case kOfSignal + SIGSEGV:
    case kOfSignal + SIGBUS:
      return std::format("it recurses or nests deeper than {} MiB of stack bear", kTemplateStackBytes >> 20);
    case kOfSignal + SIGABRT: return "it reads beyond the end of a text";
    default: return std::format("its process ended with status {}", status);
  }
}

// A template's own words may be cut anywhere.
std::string valid(std::string_view words) {
  std::string text;
  Utf8Decoder decoder;
  decoder.push(words, text);
  decoder.finish(text);
  return text;
}

int read_status(std::string_view digits) {
  int status = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), status);
  return status;
}

// The text of an answer that is kDone, else its error; `failed` says at what.
Result<std::string> read_answer(TemplateAnswer answer, std::string_view failed, std::size_t seconds) {
  switch (answer.outcome) {
    case TemplateOutcome::kDone: return std::move(answer.text);
    case TemplateOutcome::kRefused:
      return fail(ErrorCode::kInvalidArgument,
                  std::format("the model's chat template refuses this conversation: {}", valid(answer.text)));
    case TemplateOutcome::kFailed:
      return fail(ErrorCode::kCorrupt, std::format("the chat template {}{}", failed, valid(answer.text)));
    case TemplateOutcome::kEnded:
      return fail(ErrorCode::kCorrupt, std::format("the chat template was stopped, as it is broken or hostile: {}",
                                                   describe_end(read_status(answer.text), seconds)));
  }
  return fail(ErrorCode::kProtocol, "the chat template's process gave an answer of no known kind");
}

}  // namespace

Result<void> TemplateProcess::start() {
  const std::lock_guard lock(mutex_);
  return start_locked();
}

Result<std::string> TemplateProcess::render(std::string_view request_json, std::size_t max_text_bytes) {
  constexpr std::string_view kFailed = "failed";
  const std::lock_guard lock(mutex_);
  if (helper_) {
    TemplateAnswer answer = TRY(ask(request_json, max_text_bytes));
    // A template ends only the child that renders it: if the process is gone, the system or a person ended it.
    if (helper_) return read_answer(std::move(answer), kFailed, kTemplateRenderSeconds);
  }
  TRY(start_locked());
  return read_answer(TRY(ask(request_json, max_text_bytes)), kFailed, kTemplateRenderSeconds);
}

Result<void> TemplateProcess::start_locked() {
  helper_ = TRY(HelperProcess::start(kTemplateProgram));
  const auto parsed = read_answer(TRY(ask(source_, 0)), "does not parse", kTemplateParseSeconds);
  if (parsed) return {};
  helper_.reset();
  return std::unexpected(parsed.error());
}

Result<TemplateAnswer> TemplateProcess::ask(std::string_view request, std::size_t max_text_bytes) {
  const auto answer = helper_->ask(request, 1 + std::max(max_text_bytes, kTemplateMaxWordsBytes), kAnswerTimeout);
  if (answer && !answer->empty()) {
    return TemplateAnswer{static_cast<TemplateOutcome>(answer->front()), answer->substr(1)};
  }
  const auto status = helper_->stop();
  helper_.reset();
  if (answer) return fail(ErrorCode::kProtocol, "the chat template's process gave an empty answer");
  if (answer.error().code != ErrorCode::kUnavailable) {
    return fail(answer.error().code, std::format("the chat template's process: {}", answer.error().message));
  }
  return TemplateAnswer { TemplateOutcome::kEnded, std::to_string(TRY(status)) };
}

}  // namespace baton::text
