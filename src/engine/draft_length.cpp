#include "engine/draft_length.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace baton::engine {

namespace {

// So many of the latest guesses of a rank make its chance.
constexpr double kMemory = 30;
// How much of what is known of a rank goes with each step for which it was not asked.
constexpr double kDoubt = 0.005;
// How much a new measurement of a pass counts against those before.
constexpr double kNewest = 0.25;
// With each single step, what is known of larger passes moves so much towards a single one's cost: a pass that was slow
// by chance is tried again after a while.
constexpr double kFading = 0.01;
// Checking must promise so many times the tokens a second of single steps: less is lost in how unevenly passes take.
constexpr double kLeastGain = 1.05;
// After so many checks in a row a single step is made, so that what they are compared with is not of long ago.
constexpr std::uint32_t kChecksInARow = 32;

}  // namespace

DraftLength::DraftLength(std::uint32_t most_rows) : seconds_(most_rows + 1, 0) {}

std::size_t DraftLength::rank(std::uint32_t confidence) {
  return std::min<std::size_t>(std::bit_width(confidence), kRanks) - (confidence == 0 ? 0 : 1);
}

double DraftLength::cost(std::uint32_t rows) const {
  if (seconds_[rows] > 0) return seconds_[rows];
  std::uint32_t below = rows;
  while (seconds_[below] == 0) --below;
  std::uint32_t above = rows;
  while (above < seconds_.size() && seconds_[above] == 0) ++above;
  if (above == seconds_.size()) {
    // Rows more cost what rows have cost on the way from one to here.
    if (below == 1) return seconds_[1];
    const double slope = std::max(0.0, (seconds_[below] - seconds_[1]) / (below - 1));
    return seconds_[below] + slope * (rows - below);
  }
  const double share = static_cast<double>(rows - below) / (above - below);
  return seconds_[below] + share * (seconds_[above] - seconds_[below]);
}

std::uint32_t DraftLength::choose(std::uint32_t confidence, std::uint32_t guesses) const {
  if (seconds_[1] == 0 || checks_in_a_row_ >= kChecksInARow || balance_s_ < -kLossAllowed * spent_s_) return 0;
  const double chance = chances_[rank(confidence)].value();
  const auto most_rows = std::min({static_cast<std::uint32_t>(seconds_.size() - 1), 2 * largest_, guesses + 1});
  std::uint32_t best_rows = 1;
  double best_rate = kLeastGain / seconds_[1];
  double tokens = 1;
  double all_right = 1;
  for (std::uint32_t rows = 2; rows <= most_rows; ++rows) {
    all_right *= chance;
    tokens += all_right;
    if (const double rate = tokens / cost(rows); rate > best_rate) {
      best_rate = rate;
      best_rows = rows;
    }
  }
  return best_rows - 1;
}

void DraftLength::guessed(std::uint32_t confidence, std::uint32_t right, Ending ending) {
  Chance& chance = chances_[rank(confidence)];
  chance.right += right;
  chance.tried += right + (ending == Ending::kWrong ? 1 : 0);
  if (chance.tried > kMemory) chance.forget(1 - kMemory / chance.tried);
}

void DraftLength::not_guessed(std::uint32_t confidence) { chances_[rank(confidence)].forget(kDoubt); }

void DraftLength::lost(double seconds) {
  spent_s_ += seconds;
  balance_s_ -= seconds;
}

void DraftLength::passed(std::uint32_t rows, std::uint32_t tokens, double seconds) {
  spent_s_ += seconds;
  double& known = seconds_[rows];
  known = known == 0 ? seconds : known + kNewest * (seconds - known);
  largest_ = std::max(largest_, rows);
  checks_in_a_row_ = rows > 1 ? checks_in_a_row_ + 1 : 0;
  if (rows > 1) {
    balance_s_ += tokens * seconds_[1] - seconds;
    // A row less never costs more: then the single step was slow by chance.
    seconds_[1] = std::min(seconds_[1], known);
    return;
  }
  for (std::uint32_t more = 2; more < seconds_.size(); ++more) {
    if (seconds_[more] > 0) seconds_[more] += kFading * (seconds_[1] - seconds_[more]);
  }
}

}  // namespace baton::engine
