#include "text/token_cache.h"

#include <utility>

namespace baton::text {

bool TokenCache::append_known(std::string_view text, std::vector<Token>& tokens) {
  if (text.size() < kLeastTextBytes) return false;
  const std::lock_guard lock(mutex_);
  const auto found = by_text_.find(text);
  if (found == by_text_.end()) return false;
  entries_.splice(entries_.begin(), entries_, found->second);
  tokens.insert(tokens.end(), found->second->tokens.begin(), found->second->tokens.end());
  return true;
}

void TokenCache::keep(std::string_view text, std::vector<Token> tokens) {
  Entry entry{std::string(text), std::move(tokens)};
  const std::size_t size = entry.bytes();
  if (text.size() < kLeastTextBytes || size > most_bytes_ / 4) return;
  const std::lock_guard lock(mutex_);
  if (by_text_.contains(text)) return;
  entries_.push_front(std::move(entry));
  by_text_.emplace(entries_.front().text, entries_.begin());
  bytes_ += size;
  while (bytes_ > most_bytes_) {
    bytes_ -= entries_.back().bytes();
    by_text_.erase(entries_.back().text);
    entries_.pop_back();
  }
}

std::size_t TokenCache::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace baton::text
