// Guesses how a text goes on from where its latest tokens stood before (Saxena, 2023, "Prompt lookup decoding").
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/layer_range.h"

namespace baton::engine {

// Belongs to one thread. Appending costs O(1), a guess the comparison with a bounded number of earlier places.
class PromptLookup {
 public:
  // Shorter agreements with the text's end say nothing.
  static constexpr std::uint32_t kLeastMatch = 2;
  // Longer ones say nothing more.
  static constexpr std::uint32_t kMostMatch = 32;

  struct Guess {
    std::uint32_t matched = 0;  // how many of the last tokens stood before the guess's origin too; 0: there is none
    std::vector<Token> tokens;
  };

  void push(Token token);

  // What followed the longest earlier stretch that equals the text's end, the latest of several; `most` tokens. Where
  // the stretch reaches the end itself, as in a text that repeats a phrase, the guess goes on with its own beginning.
  Guess guess(std::uint32_t most) const;

 private:
  static std::uint64_t key(Token before, Token last);
  std::uint32_t match_at(std::uint32_t end) const;

  std::vector<Token> text_;
  // By the kLeastMatch tokens before it: the latest place, and from each place the one before with the same tokens.
  std::unordered_map<std::uint64_t, std::uint32_t> latest_;
  std::vector<std::uint32_t> earlier_;  // 0: none
};

}  // namespace baton::engine
