// Tells a person on standard error how far a pull is: a bar on a terminal, a line now and then elsewhere.
#pragma once

#include <string>

#include "base/clock.h"
#include "store/progress.h"

namespace baton::cli {

class PullPrinter {
 public:
  explicit PullPrinter(std::string what);

  void show(const store::PullProgress& progress);
  // Leaves the bar's line.
  void end();

 private:
  void show_bar(const store::PullProgress& progress);
  void show_line(const store::PullProgress& progress);
  double bytes_per_second(const store::PullProgress& progress);

  const std::string what_;
  const bool terminal_;
  bool named_ = false;  // what is pulled, how much, and from where
  store::PullPhase phase_ = store::PullPhase::kAsking;
  bool bar_shown_ = false;
  TimePoint next_line_{};
  // Since when so much has come: the rate is of the last seconds.
  TimePoint since_{};
  std::uint64_t bytes_since_ = 0;
  double rate_ = 0;
};

// "42% ########............ 3.7 of 8.7 GB, 95 MB/s, 53 s left"; without a total what has come.
std::string progress_text(const store::PullProgress& progress, double bytes_per_second, int bar_width);

}  // namespace baton::cli
