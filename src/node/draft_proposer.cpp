#include "node/draft_proposer.h"

#include <utility>

namespace baton::node {

namespace {

class Canceller : public engine::LayerObserver {
 public:
  Canceller(const std::atomic<bool>& cancelled, const std::stop_token& stop) : cancelled_(cancelled), stop_(stop) {}
  Next layer_done(std::uint32_t /*layer*/) override {
    const bool ends = cancelled_.load(std::memory_order_relaxed) || stop_.stop_requested();
    return ends ? Next::kStop : Next::kContinue;
  }

 private:
  const std::atomic<bool>& cancelled_;
  const std::stop_token& stop_;
};

}  // namespace

DraftProposer::DraftProposer(net::EventLoop& loop, engine::Executor& executor, const Surroundings& surroundings,
                             std::unique_ptr<engine::DraftText> text, std::span<const Token> prompt)
    : loop_(loop),
      executor_(executor),
      surroundings_(surroundings),
      work_(std::make_shared<Work>()),
      news_(prompt.begin(), prompt.end()) {
  work_->text = std::move(text);
}

DraftProposer::~DraftProposer() { work_->cancelled = true; }

void DraftProposer::prepare() {
  submit(0, [](const Result<Guess>&) {});
}

void DraftProposer::propose(std::uint32_t most, Done done) { submit(most, std::move(done)); }

void DraftProposer::submit(std::uint32_t most, Done done) {
  // A job that is refused is gone with all it was given.
  auto waiting = std::make_shared<Done>(std::move(done));
  const auto submitted = executor_.submit([&loop = loop_, now = surroundings_.now, work = work_, waiting, news = news_,
                                           most](engine::Engine&, const std::stop_token& stop) mutable {
    Canceller canceller(work->cancelled, stop);
    Guess guess;
    const TimePoint began = now();
    auto result = work->text->read(news, &canceller);
    const TimePoint read = now();
    guess.reading_seconds = seconds(read - began);
    if (result && most > 0) {
      auto tokens = work->text->guess(most, &canceller);
      guess.seconds = seconds(now() - read);
      if (tokens) guess.tokens = *std::move(tokens);
      if (!tokens) result = std::unexpected(tokens.error());
    }
    loop.post([work = std::move(work), waiting = std::move(waiting), guess = std::move(guess),
               result = std::move(result)]() mutable {
      if (work->cancelled) return;
      (*waiting)(result ? Result<Guess>(std::move(guess)) : std::unexpected(result.error()));
    });
  });
  if (!submitted) return (*waiting)(std::unexpected(submitted.error()));
  news_.clear();
}

}  // namespace baton::node
