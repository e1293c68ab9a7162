// A transfer in which nothing flows but guesses: a Sender and a Receiver that hear each other's frames.
#include <gtest/gtest.h>

#include "handoff/transfer_fixture.h"

namespace baton::handoff {
namespace {

using namespace fixture;

constexpr std::uint32_t kPromptTokens = 8;
constexpr std::string_view kAlone = "prefill=local:0-4;decode=local:0-4";

Open guesses_open() {
  Open open = open_of(kAlone, kPromptTokens, 4);
  open.plan.nodes.push_back({"A", "host-a:4001", "aa"});
  open.max_new_tokens = 40;
  open.extensions = {{kGuessExtension, {}}};
  return open;
}

class Guessing : public testing::Test {
 protected:
  void SetUp() override {
    receiver_.attach(kStart);
    const auto opening = decode(receiver_.next(kStart).value().head).value();
    sender_.emplace(Sender::create(opening, widths(), {}, kStart).value());
    sender_->accept({});
    exchange();
    ASSERT_TRUE(sender_->finish(0));
    exchange();
  }

  // Both say all they have to say, until there is nothing left.
  void exchange() {
    for (bool spoke = true; spoke;) {
      spoke = false;
      while (auto frame = receiver_.next(kStart)) {
        spoke = true;
        for (auto& event : sender_->receive(decode(frame->head).value(), kStart)) asked_.push_back(std::move(event));
      }
      while (auto frame = sender_->next(kStart)) {
        spoke = true;
        for (auto& event : receiver_.receive(decode(frame->head).value(), kStart)) heard_.push_back(std::move(event));
      }
    }
  }

  std::vector<ReceiverEvent> hear(Body body) {
    return receiver_.receive({receiver_.transfer(), receiver_.generation(), std::move(body)}, kStart);
  }

  Receiver receiver_ =
      Receiver::create(transfer_id(), guesses_open(), prompt_of(kPromptTokens), widths(), {}, kStart).value();
  std::optional<Sender> sender_;
  std::vector<SenderEvent> asked_;
  std::vector<ReceiverEvent> heard_;
};

TEST_F(Guessing, AsksBehindThePromptAndAnswersInTurn) {
  EXPECT_TRUE(find_event<PromptArrived>(asked_));
  EXPECT_TRUE(find_event<AcceptedByPeer>(heard_));
  EXPECT_TRUE(find_event<DoneReceived>(heard_)) << "the prompt has been read";

  ASSERT_TRUE(receiver_.guess({kPromptTokens, 0, {1, 2}}));
  ASSERT_TRUE(receiver_.guess({kPromptTokens + 2, 3, {3}}));
  EXPECT_FALSE(receiver_.guess({kPromptTokens + 3, 3, {}})) << "one at a time";
  exchange();
  ASSERT_EQ(count_events<GuessesWanted>(asked_), 2u);
  EXPECT_EQ(std::get<GuessesWanted>(asked_.back()).most, 3u);
  EXPECT_EQ(std::get<GuessesWanted>(asked_.back()).news, (std::vector<Token>{3}));

  sender_->guessed({kPromptTokens + 3, 70, {4, 0, 4}});
  exchange();
  const auto received = find_event<GuessesReceived>(heard_);
  ASSERT_TRUE(received);
  EXPECT_EQ(received->guesses, (Guesses{kPromptTokens + 3, 70, {4, 0, 4}}));

  ASSERT_TRUE(receiver_.guess({kPromptTokens + 3, 1, {4}})) << "and so on";
  receiver_.cancel({ErrorCode::kCancelled, "the text has ended", {}});
  exchange();
  EXPECT_TRUE(find_event<SenderEnded>(asked_));
}

TEST_F(Guessing, EndsWhereAnAnswerIsNotWhatWasAskedFor) {
  const Receiver before = receiver_;
  const std::vector<Guesses> lies = {{kPromptTokens, 0, {1, 2, 3}},  // more than two
                                     {kPromptTokens + 1, 0, {1}},    // elsewhere
                                     {kPromptTokens, 0, {5}},        // not in the vocabulary
                                     {kPromptTokens, 0, {0, -1}}};
  for (const Guesses& lie : lies) {
    receiver_ = before;
    ASSERT_TRUE(receiver_.guess({kPromptTokens, 2, {}}));
    const auto ended = find_event<ReceiverEnded>(hear(lie));
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->error.code, ErrorCode::kProtocol);
    EXPECT_TRUE(receiver_.attached()) << "the connection carries other transfers";
  }
  receiver_ = before;
  EXPECT_TRUE(find_event<ReceiverEnded>(hear(Guesses{kPromptTokens, 0, {1}}))) << "nobody asked";
}

TEST_F(Guessing, IsForOneConnection) {
  receiver_.connection_lost(kStart);
  EXPECT_EQ(receiver_.guess({kPromptTokens, 2, {}}).error().code, ErrorCode::kUnavailable);
  receiver_.attach(kStart);
  exchange();
  EXPECT_EQ(receiver_.guess({kPromptTokens, 2, {}}).error().code, ErrorCode::kUnavailable);
}

TEST_F(Guessing, TakesNoTextThatHasAGapOrIsTooLong) {
  const auto told = [&](const Draft& draft) {
    Sender sender = *sender_;
    return sender.receive({receiver_.transfer(), receiver_.generation(), draft}, kStart);
  };
  EXPECT_TRUE(find_event<GuessesWanted>(told({kPromptTokens, 1, std::vector<Token>(40)})));
  EXPECT_TRUE(find_event<ConnectionLost>(told({kPromptTokens, 1, std::vector<Token>(41)})));
  EXPECT_TRUE(find_event<ConnectionLost>(told({kPromptTokens + 1, 1, {}})));
  EXPECT_TRUE(find_event<ConnectionLost>(told({kPromptTokens - 1, 1, {1}})));
  Sender sender = *sender_;
  EXPECT_TRUE(find_event<ConnectionLost>(
      sender.receive({receiver_.transfer(), receiver_.generation(), Step{kPromptTokens, 1}}, kStart)))
      << "it computes no layers";
}

TEST(Guesses, AreForCoordinatorsAlone) {
  Open open = guesses_open();
  EXPECT_TRUE(check(open, kLayers));
  std::swap(open.sender, open.receiver);
  EXPECT_FALSE(check(open, kLayers));
}

// What a node does that knows no guesses, where a later one asks for something new.
TEST(Guesses, AnotherCriticalExtensionIsRefused) {
  Open open = guesses_open();
  open.extensions.push_back({Extension::kCriticalBit | 3, {}});
  EXPECT_EQ(check(open, kLayers).error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace baton::handoff
