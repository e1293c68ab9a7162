#include "cli/dialogue.h"

#include <pthread.h>
#include <signal.h>

#include <cstdio>
#include <iostream>
#include <optional>
#include <string_view>

#include "cli/text_output.h"

namespace baton::cli {

namespace {

constexpr std::string_view kBlock = "\"\"\"";

void set_interrupt(int how) {
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  sigaddset(&interrupt, SIGTERM);
  pthread_sigmask(how, &interrupt, nullptr);
}

// Nothing at the end of the input. Ctrl-C ends the program here.
std::optional<std::string> read_line(const char* prompt) {
  std::fputs(prompt, stdout);
  std::fflush(stdout);
  set_interrupt(SIG_UNBLOCK);
  std::string line;
  const bool got = static_cast<bool>(std::getline(std::cin, line));
  set_interrupt(SIG_BLOCK);
  if (!got) return std::nullopt;
  return line;
}

// The rest of a question that began with """, up to the line that ends with it, or to the end of the input.
std::string read_block(std::string_view first) {
  std::string text(first);
  while (!text.ends_with(kBlock)) {
    const auto line = read_line("... ");
    if (!line) return text;
    text += "\n" + *line;
  }
  text.resize(text.size() - kBlock.size());
  return text;
}

std::optional<std::string> read_question() {
  auto line = read_line("> ");
  if (!line) return std::nullopt;
  if (line->starts_with(kBlock)) return read_block(std::string_view(*line).substr(kBlock.size()));
  std::string question = *std::move(line);
  while (question.ends_with('\\')) {
    question.back() = '\n';
    const auto more = read_line("... ");
    if (!more) break;
    question += *more;
  }
  return question;
}

}  // namespace

void block_dialogue_signals() { set_interrupt(SIG_BLOCK); }

Result<void> run_dialogue(Answerer& answerer) {
  std::fputs(
      "Ask away; /bye or Ctrl-D ends, Ctrl-C stops an answer, /clear forgets; \"\"\" begins and ends several lines.\n",
      stderr);
  while (auto question = read_question()) {
    if (*question == "/bye") break;
    if (question->find_first_not_of(" \t\n") == std::string::npos) continue;
    if (*question == "/clear") {
      answerer.forget();
      continue;
    }
    const auto answered = answerer.answer(*std::move(question));
    if (answered) {
      TRY(print("\n"));
    } else if (answered.error().code == ErrorCode::kUnavailable || answered.error().code == ErrorCode::kIo) {
      return answered;
    } else {
      std::fprintf(stderr, "baton: %s\n", answered.error().to_string().c_str());
    }
  }
  return print("\n");
}

}  // namespace baton::cli
