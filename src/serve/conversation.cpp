#include "serve/conversation.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/error_table.h"
#include "serve/error_form.h"
#include "serve/json.h"

namespace baton::serve {

namespace {

class Relay : public AnswerSink {
 public:
  Relay(HttpServer& http, std::shared_ptr<Conversation> conversation, std::size_t choice)
      : http_(http), conversation_(std::move(conversation)), choice_(choice) {}

  void on_begun() override {
    http_.post([conversation = conversation_] { conversation->begun(); });
  }
  void on_piece(Piece piece) override {
    http_.post([conversation = conversation_, choice = choice_, piece = std::move(piece)]() mutable {
      conversation->piece(choice, std::move(piece));
    });
  }
  void on_end(Result<AnswerEnd> end) override {
    http_.post([conversation = conversation_, choice = choice_, end = std::move(end)]() mutable {
      conversation->end(choice, std::move(end));
    });
  }

 private:
  HttpServer& http_;
  const std::shared_ptr<Conversation> conversation_;
  const std::size_t choice_;
};

}  // namespace

Conversation::Conversation(ParsedRequest parsed, std::shared_ptr<HttpReply> reply, ErrorBody error_body,
                           std::function<void(int status)> count)
    : parsed_(std::move(parsed)),
      reply_(std::move(reply)),
      error_body_(std::move(error_body)),
      count_(std::move(count)),
      choices_(parsed_.request.prompts.size() * parsed_.request.choices),
      to_end_(choices_.size()) {
  if (parsed_.reading) readers_.assign(choices_.size(), AnswerReader(*parsed_.reading));
}

void Conversation::on_abandoned(std::function<void()> task) {
  abandoned_ = std::move(task);
  // The reply is held by the connection as long as it matters.
  reply_->on_gone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->abandon();
  });
}

void Conversation::abandon() {
  over_ = true;
  if (const auto task = std::exchange(abandoned_, nullptr)) task();
}

// The first answer to begin decides the status; those that still wait cannot be refused any more.
void Conversation::begun() {
  if (over_ || parsed_.delivery == Delivery::kWhole || reply_->begun()) return;
  count_(200);
  reply_->begin(200, parsed_.format->stream_type());
  reply_->write(parsed_.format->begin());
}

void Conversation::piece(std::size_t choice, Piece piece) {
  if (over_) return;
  if (!readers_.empty()) {
    const std::string bytes = std::exchange(piece.text, {});
    readers_[choice].push(bytes, piece);
  }
  deliver(choice, std::move(piece));
}

void Conversation::deliver(std::size_t choice, Piece piece) {
  if (piece.text.empty() && piece.scores.empty() && piece.reasoning.empty() && piece.calls.empty()) return;
  if (!piece.calls.empty())
    choices_[choice].calls.insert(choices_[choice].calls.end(), piece.calls.begin(), piece.calls.end());
  if (parsed_.delivery == Delivery::kStream) return reply_->write(parsed_.format->piece(choice, piece));
  Choice& made = choices_[choice];
  made.text += piece.text;
  made.reasoning += piece.reasoning;
  std::ranges::move(piece.scores, std::back_inserter(made.scores));
}

void Conversation::end(std::size_t choice, Result<AnswerEnd> end) {
  if (over_) return;
  if (!end) return fail_with(end.error());
  if (!readers_.empty()) {
    Piece rest;
    readers_[choice].finish(rest);
    deliver(choice, std::move(rest));
  }
  choices_[choice].end = *std::move(end);
  AnswerEnd& ended = choices_[choice].end;
  if (ended.reason == EndReason::kEndOfText && !choices_[choice].calls.empty()) ended.reason = EndReason::kCalls;
  const bool streams = parsed_.delivery == Delivery::kStream;
  if (streams) reply_->write(parsed_.format->end_of_choice(choice, choices_[choice].end));
  if (--to_end_ > 0) return;
  over_ = true;
  abandoned_ = nullptr;
  if (streams) {
    reply_->write(parsed_.format->end(choices_));
    reply_->end();
  } else {
    count_(200);
    reply_->send(200, kJsonType, parsed_.format->whole(choices_));
  }
}

void Conversation::fail_with(const Error& error) {
  if (reply_->begun()) {
    reply_->write(parsed_.format->error(error));
    reply_->end();
  } else {
    const int status = http_status(error.code);
    count_(status);
    reply_->send(status, kJsonType, error_body_(status, error), retry_headers(status, error));
  }
  abandon();
}

std::shared_ptr<AnswerSink> relay_to(HttpServer& http, std::shared_ptr<Conversation> conversation, std::size_t choice) {
  return std::make_shared<Relay>(http, std::move(conversation), choice);
}

}  // namespace baton::serve
