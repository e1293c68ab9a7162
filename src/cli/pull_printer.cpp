#include "cli/pull_printer.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <format>
#include <utility>

#include "cli/text_output.h"

namespace baton::cli {

namespace {

constexpr int kBarWidth = 24;
constexpr auto kLineInterval = std::chrono::seconds(5);
constexpr auto kRateInterval = std::chrono::seconds(2);

void say(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

std::string time_text(double seconds) {
  const auto whole = static_cast<long>(seconds);
  if (whole >= 3600) return std::format("{} h {} min", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return std::format("{} min {} s", whole / 60, whole % 60);
  return std::format("{} s", whole);
}

}  // namespace

std::string progress_text(const store::PullProgress& progress, double bytes_per_second, int bar_width) {
  std::string text;
  if (progress.bytes_total > 0) {
    const double part =
        std::min(1.0, static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total));
    text = std::format("{:3.0f}% ", 100 * part);
    if (bar_width > 0) {
      const auto filled = static_cast<std::size_t>(part * bar_width);
      text += std::string(filled, '#') + std::string(static_cast<std::size_t>(bar_width) - filled, '.') + " ";
    }
    text += std::format("{} of {}", size_text(progress.bytes_done), size_text(progress.bytes_total));
  } else {
    text = size_text(progress.bytes_done);
  }
  if (progress.phase == store::PullPhase::kChecking) return text + ", checking what is here";
  if (progress.phase == store::PullPhase::kWaiting) return text + ", trying again soon: " + progress.problem;
  if (bytes_per_second < 1) return text;
  text += std::format(", {}/s", size_text(static_cast<std::uint64_t>(bytes_per_second)));
  if (progress.bytes_total > progress.bytes_done) {
    text += std::format(", {} left",
                        time_text(static_cast<double>(progress.bytes_total - progress.bytes_done) / bytes_per_second));
  }
  return text;
}

PullPrinter::PullPrinter(std::string what) : what_(std::move(what)), terminal_(isatty(STDERR_FILENO) != 0) {}

void PullPrinter::show(const store::PullProgress& progress) {
  if (progress.phase == store::PullPhase::kAsking) return;
  if (!std::exchange(named_, true)) {
    const std::string size = progress.bytes_total > 0 ? ", " + size_text(progress.bytes_total) : "";
    say(std::format("pulling {} from {}{}\n", what_, progress.from, size));
  }
  if (terminal_) {
    show_bar(progress);
  } else {
    show_line(progress);
  }
  phase_ = progress.phase;
}

double PullPrinter::bytes_per_second(const store::PullProgress& progress) {
  const TimePoint time = now();
  if (progress.phase != phase_ || since_ == TimePoint{}) {
    since_ = time;
    bytes_since_ = progress.bytes_done;
    rate_ = 0;
  }
  const double passed = seconds(time - since_);
  if (passed >= seconds(Duration(kRateInterval)) || (rate_ == 0 && passed > 0.2)) {
    rate_ = static_cast<double>(progress.bytes_done - std::min(bytes_since_, progress.bytes_done)) / passed;
    since_ = time;
    bytes_since_ = progress.bytes_done;
  }
  return rate_;
}

void PullPrinter::show_bar(const store::PullProgress& progress) {
  // \033[K: the rest of the line is left over from a longer one.
  say("\r" + progress_text(progress, bytes_per_second(progress), kBarWidth) + "\033[K");
  bar_shown_ = true;
}

void PullPrinter::show_line(const store::PullProgress& progress) {
  const double rate = bytes_per_second(progress);
  const TimePoint time = now();
  if (progress.phase == phase_ && time < next_line_) return;
  next_line_ = time + Duration(kLineInterval);
  say(progress_text(progress, rate, 0) + "\n");
}

void PullPrinter::end() {
  if (std::exchange(bar_shown_, false)) say("\n");
}

}  // namespace baton::cli
