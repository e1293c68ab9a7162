// A conversation on the terminal: questions are read, answers are streamed.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace baton::cli {

// Who answers: a model in this process, or a node's API. It remembers the conversation.
class Answerer {
 public:
  virtual ~Answerer() = default;
  // Prints the answer as it comes. Ctrl-C ends it where it is, and that is no error.
  virtual Result<void> answer(std::string question) = 0;
  // Forgets the conversation, but not what the model was told before it.
  virtual void forget() = 0;
};

// What a line is that was typed where a question is awaited.
enum class TypedLine { kQuestion, kHelp, kClear, kBye, kNoSuchCommand };

// A command's first word is a slash and letters, and nothing stands before it. So "/usr/bin" and "//" begin questions,
// and so does " /usr", by its space.
TypedLine typed_line(std::string_view line);

// Reads questions from the terminal until "/bye", the end of the input or Ctrl-C where a question is awaited. Between
// two lines that begin and end with """ a question has several lines, and so it has where a line ends with a backslash.
// "/clear" begins another conversation, "/help" lists the commands. What an answer fails with is said, and the dialogue
// goes on, unless who answers is gone (kUnavailable). Call block_dialogue_signals() before any other thread starts.
Result<void> run_dialogue(Answerer& answerer);
void block_dialogue_signals();

}  // namespace baton::cli
