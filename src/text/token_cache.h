// The tokens of texts that were encoded before, so that a conversation that comes again, one message longer, is not
// encoded anew. Exact: what lies between two control tokens is encoded by itself, whatever stands around it.
#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/layer_range.h"

namespace baton::text {

// Of one tokenizer. Safe to use from several threads. What was used longest ago is given up first.
class TokenCache {
 public:
  // Shorter texts are encoded faster than found.
  static constexpr std::size_t kLeastTextBytes = 64;

  // How much texts and tokens may take together; a text that would take more than a quarter of it is not kept.
  explicit TokenCache(std::size_t most_bytes) : most_bytes_(most_bytes) {}

  // Appends the text's tokens. False, and nothing is appended, where they are not known.
  bool append_known(std::string_view text, std::vector<Token>& tokens);
  void keep(std::string_view text, std::vector<Token> tokens);

  std::size_t bytes() const;

 private:
  struct Entry {
    std::string text;
    std::vector<Token> tokens;
    std::size_t bytes() const { return text.size() + tokens.size() * sizeof(Token); }
  };

  const std::size_t most_bytes_;
  mutable std::mutex mutex_;
  std::size_t bytes_ = 0;
  std::list<Entry> entries_;                                                  // the latest used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_text_;  // views into the entries
};

}  // namespace baton::text
