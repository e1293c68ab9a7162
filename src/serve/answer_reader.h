// Takes an answer apart as it comes: thoughts, text and calls of functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "serve/answer_syntax.h"
#include "serve/generator.h"

namespace baton::serve {

// What of an answer is to be told apart.
struct AnswerReading {
  AnswerSyntax syntax;
  std::vector<std::string> functions = {};  // that may be called; where there is none, a call is only text
  bool in_thought = false;                  // the answer begins within the model's thoughts
};

class AnswerReader {
 public:
  explicit AnswerReader(AnswerReading reading);

  // What has become certain by these bytes: `text`, `reasoning` and `calls` are added to the piece. What is marked as
  // a call but is none comes as text.
  void push(std::string_view bytes, Piece& piece);
  void finish(Piece& piece);

 private:
  enum class State {
    kStart,
    kThought,
    kBlank,  // between two parts: blanks mean nothing
    kContent,
    kCall,
    kHeader,  // harmony: up to <|message|>
    kMessage,
  };

  bool reads_calls() const { return !reading_.functions.empty(); }
  // Each says whether it has made progress.
  bool step(Piece& piece);
  bool step_start();
  bool step_thought(Piece& piece);
  bool step_content(Piece& piece);
  bool step_call(Piece& piece);
  bool step_header();
  bool step_message(Piece& piece);
  void give_message(std::string_view bytes, Piece& piece);
  void end_message(Piece& piece);
  void read_calls(std::string_view text, std::string_view raw, Piece& piece);
  bool add_call(std::string_view json, std::string_view arguments_name, std::vector<FunctionCall>& calls) const;
  std::string call_id() const;
  std::string_view call_mark() const;

  AnswerReading reading_;
  State state_ = State::kStart;
  std::string held_;
  bool thought_begun_ = false;
  std::string channel_;    // harmony: of the message
  std::string recipient_;  // and whose function it calls
  std::string arguments_;
};

}  // namespace baton::serve
