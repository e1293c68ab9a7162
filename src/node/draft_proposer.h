// Guesses by a draft model, which computes on the executor's thread between the passes that check it.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "engine/draft_model.h"
#include "engine/executor.h"
#include "net/event_loop.h"
#include "node/proposer.h"
#include "node/surroundings.h"

namespace baton::node {

class DraftProposer : public Proposer {
 public:
  // The loop and the executor outlive it; `text` is not in use elsewhere, and its engine outlives the executor.
  DraftProposer(net::EventLoop& loop, engine::Executor& executor, const Surroundings& surroundings,
                std::unique_ptr<engine::DraftText> text, std::span<const Token> prompt);
  // What is being computed ends within a layer.
  ~DraftProposer() override;

  std::string_view name() const override { return "draft"; }
  Cost cost() const override { return Cost::kTime; }
  void push(Token token) override { news_.push_back(token); }
  void prepare() override;
  void propose(std::uint32_t most, Done done) override;

 private:
  // Shared with the jobs that use it, on the executor's thread but for `cancelled`.
  struct Work {
    std::unique_ptr<engine::DraftText> text;
    std::atomic<bool> cancelled = false;
  };
  void submit(std::uint32_t most, Done done);

  net::EventLoop& loop_;
  engine::Executor& executor_;
  const Surroundings& surroundings_;
  std::shared_ptr<Work> work_;
  std::vector<Token> news_;  // of the text, that no job has been told
};

}  // namespace baton::node
