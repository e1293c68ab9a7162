// Guesses how a text goes on by a second, small model of the same tokens (Leviathan et al., 2023, "Fast inference from
// transformers via speculative decoding"). What comes of a guess is up to the model that checks it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "engine/sampler.h"

namespace baton::engine {

// Opens a model that may guess for another. kInvalidArgument, naming what differs, where its tokens are not those of
// `checker`; kUnsupported where it cannot forget tokens that turned out wrong.
Result<std::shared_ptr<const Model>> open_draft_model(const std::filesystem::path& path, const Model& checker);

// One text as a draft model reads it. Belongs to the thread that runs the engine's passes, which must outlive the
// calls.
class DraftText {
 public:
  // Takes cells for a text of so many tokens, those guessed included. Guesses are drawn as the sampler would draw the
  // text's tokens: by the same random numbers, so that like models draw alike; of the checker's `vocabulary`.
  static Result<std::unique_ptr<DraftText>> create(Engine& engine, const SamplerOptions& sampler,
                                                   std::uint32_t vocabulary, std::uint32_t tokens);

  // The text goes on with `news`: computes what is not yet in the cache, in chunks. The observer may cancel that.
  Result<void> read(std::span<const Token> news, LayerObserver* observer = nullptr);
  // What follows the text, `most` tokens of it, at most as many as its cells hold. None where the text has a token that
  // the draft model does not know. Costs a pass for each token, the first of which reads what was not read; but nothing
  // for tokens that were guessed before and have not been wrong since.
  Result<std::vector<Token>> guess(std::uint32_t most, LayerObserver* observer = nullptr);

  // Tokens of the text that the next guess has to read first.
  std::uint32_t unread() const;

 private:
  DraftText(Engine& engine, Sampler sampler, std::uint32_t vocabulary, Sequence sequence);
  void go_on_with(Token token);
  void leave_the_last_to_compute();
  // Rows of the text up to there that the cache does not have.
  Result<void> compute(std::size_t end, WantedLogits logits, LayerObserver* observer);

  Engine& engine_;
  Sampler sampler_;
  std::uint32_t vocabulary_;  // tokens that both models have
  Sequence sequence_;
  std::vector<Token> text_;  // and behind it what was guessed last, as far as it may still be right
  std::size_t known_ = 0;    // tokens of the text alone
  std::size_t cached_ = 0;   // tokens of both whose rows the cache has
  bool readable_ = true;     // every token of the text is in the vocabulary
  std::vector<float> logits_;
};

}  // namespace baton::engine
