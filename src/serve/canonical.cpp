#include "serve/canonical.h"

#include <array>
#include <chrono>

#include "base/random.h"

namespace baton::serve {

Usage usage_of(std::span<const Choice> choices, std::uint32_t choices_for_each_prompt) {
  Usage usage;
  for (std::size_t index = 0; index < choices.size(); ++index) {
    // A prompt is counted once, however many answers it has.
    if (index % choices_for_each_prompt == 0) {
      usage.prompt_tokens += choices[index].end.prompt_tokens;
      usage.cached_tokens += choices[index].end.cached_tokens;
    }
    usage.new_tokens += choices[index].end.new_tokens;
  }
  return usage;
}

std::string new_id(std::string_view prefix) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz234567";
  std::array<std::byte, 24> random{};
  fill_random(random);
  std::string id(prefix);
  id += '-';
  for (const std::byte byte : random) id += kLetters[std::to_integer<std::size_t>(byte) % kLetters.size()];
  return id;
}

std::int64_t unix_time() {
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(time).count();
}

std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  fill_random(std::as_writable_bytes(std::span(&seed, 1)));
  return seed;
}

std::string server_sent_event(std::string_view data, std::string_view event) {
  std::string text;
  if (!event.empty()) text = "event: " + std::string(event) + "\n";
  text += "data: ";
  text += data;
  text += "\n\n";
  return text;
}

}  // namespace baton::serve
