// Decides how many guessed tokens a pass should check, from what guesses were worth and what rows cost so far. Pure.
//
// A pass over the last token and d guesses yields the guesses up to the first wrong one, and a token more: with a
// chance p for each, 1 + p + ... + p^d tokens (Leviathan et al., 2023, "Fast inference from transformers via
// speculative decoding"). The d with the most tokens a second is chosen; where that is 0, nothing is guessed. What a
// pass of so many rows takes is known only from passes that were made, so their number grows by doubling.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace baton::engine {

class DraftLength {
 public:
  // What guesses may have cost in all, of the time spent so far. While they have cost more, nothing is guessed.
  static constexpr double kLossAllowed = 0.02;

  explicit DraftLength(std::uint32_t most_rows);

  // How many of the guesses to check; `confidence` ranks guesses: those of like rank are judged together.
  std::uint32_t choose(std::uint32_t confidence, std::uint32_t guesses) const;

  // A guess of this rank was right so many times before it was wrong (or, not `wrong`, ended). It need not have been
  // checked by a pass: what was guessed and not checked is known as well once the text has gone on.
  enum class Ending { kWrong, kOpen };
  void guessed(std::uint32_t confidence, std::uint32_t right, Ending ending);
  // Nothing was guessed, so nothing can be learnt: what is known of guesses of this rank slowly becomes doubtful.
  void not_guessed(std::uint32_t confidence);
  // A pass over so many rows, which made so many tokens, took so long, with what it took to guess them.
  void passed(std::uint32_t rows, std::uint32_t tokens, double seconds);
  // Guessing took so long beside any pass.
  void lost(double seconds);

 private:
  struct Chance {
    double right = 0;
    double tried = 0;
    // One more of two: without any evidence, one half.
    double value() const { return (right + 1) / (tried + 2); }
    void forget(double share) {
      right *= 1 - share;
      tried *= 1 - share;
    }
  };
  static std::size_t rank(std::uint32_t confidence);
  double cost(std::uint32_t rows) const;  // seconds, as far as measured; else what the nearest measurements suggest

  static constexpr std::size_t kRanks = 6;
  std::array<Chance, kRanks> chances_;
  std::vector<double> seconds_;  // of a pass, by rows; 0: not measured
  std::uint32_t largest_ = 1;    // rows measured
  std::uint32_t checks_in_a_row_ = 0;
  double spent_s_ = 0;
  double balance_s_ = 0;  // what guesses have won, or less than 0
};

}  // namespace baton::engine
