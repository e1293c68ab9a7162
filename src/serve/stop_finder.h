// Finds where a text that comes piece by piece must stop. What may be the beginning of a stop text is held back until
// it is known not to be one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace baton::serve {

class StopFinder {
 public:
  // None of them may be empty.
  explicit StopFinder(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // The text that is now certain to come before any stop text. Nothing follows once stopped().
  std::string push(std::string_view piece);
  // The text goes no further: what was held back.
  std::string finish();

  // The stop text that was found first, where one was; it is not part of the text.
  const std::optional<std::string>& stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::optional<std::string> stopped_;
};

}  // namespace baton::serve
