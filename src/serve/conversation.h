// One request's answers on their way to its client: gathers them, or streams them, in the form of its API. Lives on the
// HTTP server's thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "serve/canonical.h"
#include "serve/http_server.h"

namespace baton::serve {

class Conversation : public std::enable_shared_from_this<Conversation> {
 public:
  // `error_body` is the API's own.
  using ErrorBody = std::function<std::string(int status, const Error& error)>;
  Conversation(ParsedRequest parsed, std::shared_ptr<HttpReply> reply, ErrorBody error_body,
               std::function<void(int status)> count);

  // Of all prompts together, prompt by prompt.
  std::size_t choices() const { return choices_.size(); }
  // Called once when nobody waits for the answers any more, or one of them has failed.
  void on_abandoned(std::function<void()> task);

  void begun();
  void piece(std::size_t choice, Piece piece);
  void end(std::size_t choice, Result<AnswerEnd> end);

 private:
  void deliver(std::size_t choice, Piece piece);
  void fail_with(const Error& error);
  void abandon();

  ParsedRequest parsed_;
  std::shared_ptr<HttpReply> reply_;
  ErrorBody error_body_;
  std::function<void(int status)> count_;
  std::function<void()> abandoned_;
  std::vector<Choice> choices_;
  std::vector<AnswerReader> readers_;  // of each choice, where its parts are told apart
  std::size_t to_end_ = 0;
  bool over_ = false;
};

// Brings an answer's events, on whatever thread they come, to the HTTP server's, which must outlive it.
std::shared_ptr<AnswerSink> relay_to(HttpServer& http, std::shared_ptr<Conversation> conversation, std::size_t choice);

}  // namespace baton::serve
