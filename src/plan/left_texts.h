// Which texts this node's requests have left in the caches of others: what a planner may hope to find there. Whether it
// is still so only those nodes know. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "base/layer_range.h"

namespace baton::plan {

class LeftTexts {
 public:
  // Beyond this many tokens in all, the oldest texts are forgotten.
  static constexpr std::size_t kMostTokens = 1 << 20;

  // A node, by its key's fingerprint, has computed all of these tokens.
  void add(const std::string& node, std::span<const Token> text);
  // It has lost what it had.
  void forget(const std::string& node);
  // The longest beginning that a prompt has in common with a text there.
  std::uint32_t common_tokens(const std::string& node, std::span<const Token> prompt) const;

 private:
  struct Left {
    std::string node;
    std::vector<Token> text;
  };
  std::deque<Left> texts_;  // the latest last
  std::size_t tokens_ = 0;
};

}  // namespace baton::plan
