// Guesses by the draft model of another node, over a transfer of guesses (docs/formats/kv-stream.md). Whatever becomes
// of that node, the text goes on: without a guess that is late, and without any more where something goes wrong.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "engine/sampler.h"
#include "node/proposer.h"
#include "node/session.h"

namespace baton::node {

class RemoteProposer : public Proposer {
 public:
  // A guess is waited for so many times as long as the longest pass of this text so far, and so long where that is
  // more.
  static constexpr int kPatienceInPasses = 4;
  static constexpr Duration kLeastPatience = std::chrono::milliseconds(250);

  // Guesses at the request's text, which goes on with at most so many tokens. The peer is told of it when the text
  // first goes on: until then it may be busy with reading the prompt for us. While it has not read the text there are
  // no guesses, and nobody waits.
  RemoteProposer(SessionHost& host, const handoff::Open& request, plan::NodeRef peer,
                 const engine::SamplerOptions& sampler, std::span<const Token> text, std::uint32_t most);
  ~RemoteProposer() override;

  std::string_view name() const override { return "draft"; }
  std::string where() const override;
  std::string why_silent() const override;
  Cost cost() const override { return Cost::kTime; }
  void push(Token token) override;
  void propose(std::uint32_t most, Done done) override;

 private:
  class Talk;
  std::shared_ptr<Talk> talk_;
};

}  // namespace baton::node
