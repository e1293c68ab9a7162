#include "serve/answer_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include "serve/canonical.h"
#include "serve/json.h"

namespace baton::serve {

namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr std::string_view kThink = "<think>";
constexpr std::string_view kThinkEnd = "</think>";
constexpr std::string_view kToolCall = "<tool_call>";
constexpr std::string_view kToolCallEnd = "</tool_call>";
constexpr std::string_view kToolCalls = "[TOOL_CALLS]";
constexpr std::string_view kPythonTag = "<|python_tag|>";
constexpr std::string_view kMessage = "<|message|>";
constexpr std::string_view kChannel = "<|channel|>";
constexpr std::array<std::string_view, 5> kMessageEnds = {"<|end|>", "<|start|>", "<|channel|>", "<|call|>",
                                                          "<|return|>"};
constexpr std::string_view kFunctions = "functions.";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// How much of the text's end may be the beginning of the mark.
std::size_t dangling(std::string_view text, std::string_view mark) {
  for (std::size_t length = std::min(mark.size() - 1, text.size()); length > 0; --length) {
    if (text.ends_with(mark.substr(0, length))) return length;
  }
  return 0;
}

// How much of the text is certain to come before the mark and the blanks that lead to it.
std::size_t certain_length(std::string_view text, std::string_view mark) {
  const std::string_view before = text.substr(0, text.size() - dangling(text, mark));
  return before.find_last_not_of(kBlanks) + 1;  // npos + 1 is 0
}

// What follows the word in a header, up to a blank or the next mark.
std::string word_after(std::string_view header, std::string_view word) {
  const std::size_t at = header.find(word);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = header.substr(at + word.size());
  return std::string(rest.substr(0, std::min(rest.find_first_of(" \t\r\n<"), rest.size())));
}

}  // namespace

AnswerReader::AnswerReader(AnswerReading reading) : reading_(std::move(reading)) {
  if (reading_.syntax.thinks == ThinkSyntax::kHarmony) {
    state_ = State::kHeader;
  } else if (reading_.in_thought) {
    state_ = State::kThought;
  }
}

void AnswerReader::push(std::string_view bytes, Piece& piece) {
  held_ += bytes;
  while (step(piece)) {}
}

bool AnswerReader::step(Piece& piece) {
  switch (state_) {
    case State::kStart: return step_start();
    case State::kThought: return step_thought(piece);
    case State::kBlank: {
      held_.erase(0, std::min(held_.find_first_not_of(kBlanks), held_.size()));
      if (held_.empty()) return false;
      state_ = State::kContent;
      return true;
    }
    case State::kContent: return step_content(piece);
    case State::kCall: return step_call(piece);
    case State::kHeader: return step_header();
    case State::kMessage: return step_message(piece);
  }
  return false;
}

bool AnswerReader::step_start() {
  const std::string_view text =
      std::string_view(held_).substr(std::min(held_.find_first_not_of(kBlanks), held_.size()));
  if (reading_.syntax.thinks == ThinkSyntax::kTags) {
    if (text.size() < kThink.size() && kThink.starts_with(text)) return false;
    if (text.starts_with(kThink)) {
      held_ = std::string(text.substr(kThink.size()));
      state_ = State::kThought;
      return true;
    }
  }
  // A call in the manner of Llama is the whole answer, and looks like JSON.
  if (reads_calls() && reading_.syntax.calls == CallSyntax::kLlama) {
    if (text.size() < kPythonTag.size() && kPythonTag.starts_with(text)) return false;
    if (text.starts_with('{') || text.starts_with(kPythonTag)) {
      state_ = State::kCall;
      return true;
    }
  }
  state_ = State::kContent;
  return true;
}

bool AnswerReader::step_thought(Piece& piece) {
  if (!thought_begun_) {
    held_.erase(0, std::min(held_.find_first_not_of(kBlanks), held_.size()));
    if (held_.empty()) return false;
    thought_begun_ = true;
  }
  const std::size_t end = held_.find(kThinkEnd);
  if (end != std::string::npos) {
    std::string_view thought = std::string_view(held_).substr(0, end);
    thought = thought.substr(0, thought.find_last_not_of(kBlanks) + 1);
    piece.reasoning += thought;
    held_.erase(0, end + kThinkEnd.size());
    state_ = State::kBlank;
    return true;
  }
  const std::size_t certain = certain_length(held_, kThinkEnd);
  piece.reasoning += held_.substr(0, certain);
  held_.erase(0, certain);
  return false;
}

std::string_view AnswerReader::call_mark() const {
  if (!reads_calls()) return {};
  if (reading_.syntax.calls == CallSyntax::kHermes) return kToolCall;
  if (reading_.syntax.calls == CallSyntax::kMistral) return kToolCalls;
  return {};
}

bool AnswerReader::step_content(Piece& piece) {
  const std::string_view mark = call_mark();
  if (mark.empty()) {
    piece.text += std::exchange(held_, {});
    return false;
  }
  const std::size_t begin = held_.find(mark);
  if (begin != std::string::npos) {
    std::string_view before = std::string_view(held_).substr(0, begin);
    before = before.substr(0, before.find_last_not_of(kBlanks) + 1);
    piece.text += before;
    held_.erase(0, begin);
    state_ = State::kCall;
    return true;
  }
  const std::size_t certain = certain_length(held_, mark);
  piece.text += held_.substr(0, certain);
  held_.erase(0, certain);
  return false;
}

// The held text begins with the mark. Only where calls have an end of their own can they be given out before the
// answer's.
bool AnswerReader::step_call(Piece& piece) {
  if (reading_.syntax.calls != CallSyntax::kHermes) return false;
  const std::size_t end = held_.find(kToolCallEnd);
  if (end == std::string::npos) return false;
  const std::string raw = held_.substr(0, end + kToolCallEnd.size());
  held_.erase(0, raw.size());
  state_ = State::kBlank;
  read_calls(std::string_view(raw).substr(kToolCall.size(), end - kToolCall.size()), raw, piece);
  return true;
}

bool AnswerReader::step_header() {
  const std::size_t end = held_.find(kMessage);
  if (end == std::string::npos) return false;
  const std::string_view header = std::string_view(held_).substr(0, end);
  channel_ = word_after(header, kChannel);
  recipient_ = word_after(header, "to=");
  arguments_.clear();
  held_.erase(0, end + kMessage.size());
  state_ = State::kMessage;
  return true;
}

bool AnswerReader::step_message(Piece& piece) {
  std::size_t end = std::string::npos;
  std::size_t keep = 0;
  std::string_view found;
  for (const std::string_view mark : kMessageEnds) {
    const std::size_t at = held_.find(mark);
    keep = std::max(keep, dangling(held_, mark));
    if (at >= end) continue;
    end = at;
    found = mark;
  }
  if (end != std::string::npos) {
    give_message(std::string_view(held_).substr(0, end), piece);
    end_message(piece);
    // A header may begin with its channel at once.
    held_.erase(0, end + (found == kChannel ? 0 : found.size()));
    state_ = State::kHeader;
    return true;
  }
  give_message(std::string_view(held_).substr(0, held_.size() - keep), piece);
  held_.erase(0, held_.size() - keep);
  return false;
}

void AnswerReader::give_message(std::string_view bytes, Piece& piece) {
  if (recipient_.starts_with(kFunctions) && reads_calls()) {
    arguments_ += bytes;
  } else if (channel_ == "analysis") {
    piece.reasoning += bytes;
  } else {
    piece.text += bytes;
  }
}

void AnswerReader::end_message(Piece& piece) {
  if (!recipient_.starts_with(kFunctions) || !reads_calls()) return;
  const auto arguments = parse_json(arguments_);
  if (arguments && arguments->is_object()) {
    piece.calls.push_back({call_id(), recipient_.substr(kFunctions.size()), to_json(*arguments)});
  } else {
    piece.text += arguments_;
  }
  arguments_.clear();
  recipient_.clear();
}

std::string AnswerReader::call_id() const {
  // Templates of this family want nine characters.
  if (reading_.syntax.calls == CallSyntax::kMistral) return new_id("").substr(1, 9);
  return new_id("call");
}

bool AnswerReader::add_call(std::string_view json, std::string_view arguments_name,
                            std::vector<FunctionCall>& calls) const {
  const auto call = parse_json(json);
  if (!call || !call->is_object()) return false;
  const auto& members = call->get_object();
  const auto name = members.find("name");
  const auto arguments = members.find(arguments_name);
  if (name == members.end() || !name->second.is_string() || arguments == members.end() ||
      !arguments->second.is_object()) {
    return false;
  }
  calls.push_back({call_id(), name->second.get<std::string>(), to_json(arguments->second)});
  return true;
}

void AnswerReader::read_calls(std::string_view text, std::string_view raw, Piece& piece) {
  std::vector<FunctionCall> calls;
  bool good = false;
  if (reading_.syntax.calls == CallSyntax::kMistral) {
    const auto list = parse_json(text);
    good = list && list->is_array() && !list->get_array().empty();
    if (good) {
      for (const Json& one : list->get_array()) good = good && add_call(to_json(one), "arguments", calls);
    }
  } else if (reading_.syntax.calls == CallSyntax::kLlama) {
    good = add_call(text, "parameters", calls) || add_call(text, "arguments", calls);
    // An answer that is JSON of another kind may have such members, too.
    good = good && std::ranges::find(reading_.functions, calls.front().name) != reading_.functions.end();
  } else {
    good = add_call(text, "arguments", calls);
  }
  if (!good) {
    piece.text += raw;
    return;
  }
  std::ranges::move(calls, std::back_inserter(piece.calls));
}

void AnswerReader::finish(Piece& piece) {
  const std::string rest = std::exchange(held_, {});
  switch (state_) {
    case State::kStart:
    case State::kContent: piece.text += rest; break;
    case State::kBlank: break;
    case State::kThought: piece.reasoning += rest; break;
    case State::kCall: {
      if (reading_.syntax.calls == CallSyntax::kHermes) {
        piece.text += rest;
        break;
      }
      std::string_view text = rest;
      if (reading_.syntax.calls == CallSyntax::kMistral) text.remove_prefix(kToolCalls.size());
      text = trimmed(text);
      if (text.starts_with(kPythonTag)) text = trimmed(text.substr(kPythonTag.size()));
      read_calls(text, rest, piece);
      break;
    }
    // A header that never led to a message says nothing.
    case State::kHeader:
      if (!rest.contains("<|")) piece.text += rest;
      break;
    case State::kMessage:
      give_message(rest, piece);
      end_message(piece);
      break;
  }
}

}  // namespace baton::serve
