#include "cli/dialogue.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string_view>

#include "cli/text_output.h"

namespace baton::cli {

namespace {

constexpr std::string_view kBlock = "\"\"\"";

constexpr const char* kCommands =
    "  /help   lists these\n"
    "  /clear  forgets the conversation and begins another\n"
    "  /bye    ends, as Ctrl-D does\n"
    "Ctrl-C stops an answer. Between two \"\"\" a question has several lines, and so it has where a line ends with "
    "\\.\n"
    "A line whose first word is a slash and letters is a command. All else is sent as it is: /usr/bin, // and, with a\n"
    "space before it, /usr.\n";

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

struct Typed {
  std::string text;
  TypedLine line = TypedLine::kQuestion;
};

std::optional<Typed> read_question() {
  auto line = read_line("> ");
  if (!line) return std::nullopt;
  if (line->starts_with(kBlock)) return Typed{read_block(std::string_view(*line).substr(kBlock.size()))};
  if (const TypedLine typed = typed_line(*line); typed != TypedLine::kQuestion) return Typed{*std::move(line), typed};
  std::string question = *std::move(line);
  while (question.ends_with('\\')) {
    question.back() = '\n';
    const auto more = read_line("... ");
    if (!more) break;
    question += *more;
  }
  return Typed{std::move(question)};
}

void obey(const Typed& typed, Answerer& answerer) {
  if (typed.line == TypedLine::kClear) {
    answerer.forget();
    std::fputs("forgotten: the next question begins another conversation\n", stderr);
    return;
  }
  if (typed.line == TypedLine::kNoSuchCommand) {
    std::fprintf(stderr, "no such command: '%s'; these there are (a space before it sends it as a text):\n",
                 typed.text.c_str());
  }
  std::fputs(kCommands, stderr);
}

}  // namespace

TypedLine typed_line(std::string_view line) {
  line = line.substr(0, line.find_last_not_of(" \t\r") + 1);
  const std::string_view word = line.substr(0, line.find_first_of(" \t"));
  if (word.size() < 2 || word.front() != '/') return TypedLine::kQuestion;
  const auto is_letter = [](unsigned char c) { return std::isalpha(c) != 0; };
  if (!std::ranges::all_of(word.substr(1), is_letter)) return TypedLine::kQuestion;
  if (line == "/help") return TypedLine::kHelp;
  if (line == "/clear") return TypedLine::kClear;
  return line == "/bye" ? TypedLine::kBye : TypedLine::kNoSuchCommand;
}

void block_dialogue_signals() { set_interrupt(SIG_BLOCK); }

Result<void> run_dialogue(Answerer& answerer) {
  std::fputs(
      "Ask away; /bye or Ctrl-D ends, Ctrl-C stops an answer, /clear forgets, /help says more; \"\"\" begins and ends "
      "several lines.\n",
      stderr);
  while (auto typed = read_question()) {
    if (typed->line == TypedLine::kBye) break;
    if (typed->line != TypedLine::kQuestion) {
      obey(*typed, answerer);
      continue;
    }
    if (typed->text.find_first_not_of(" \t\n") == std::string::npos) continue;
    const auto answered = answerer.answer(std::move(typed->text));
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
