#include "node/prefix_cache.h"

#include <algorithm>

namespace baton::node {

namespace {

std::uint32_t common_length(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<std::uint32_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

bool contains(LayerRange outer, LayerRange inner) { return outer.begin <= inner.begin && inner.end <= outer.end; }

}  // namespace

std::string shape_of_chunks(std::uint32_t chunk_tokens) { return std::to_string(chunk_tokens); }

bool PrefixCache::suits(const PrefixNeed& need, const KeptText& text) {
  if (!contains(text.layers, need.layers)) return false;
  if (!text.origin.loss.empty() && text.origin.loss != need.origin.loss) return false;
  return !need.exactly || text.origin.shape == need.origin.shape;
}

std::uint32_t PrefixCache::usable(const PrefixNeed& need, const Entry& entry, std::uint32_t common) const {
  if (need.exactly) common = std::min(common, entry.text.exact_tokens);
  const std::uint32_t position =
      entry.workspace->last_position_to_continue(need.layers, common / need.grid * need.grid);
  return position % need.grid == 0 && position >= kLeastPrefixTokens ? position : 0;
}

std::uint32_t PrefixCache::common_tokens(const PrefixNeed& need, std::span<const Token> prompt) const {
  std::uint32_t most = 0;
  for (const Entry& entry : entries_) {
    if (entry.idle() && suits(need, entry.text)) most = std::max(most, common_length(entry.text.tokens, prompt));
  }
  return most;
}

Result<std::shared_ptr<Workspace>> PrefixCache::take(const PrefixNeed& need, std::span<const Token> prompt) {
  // The last token is computed in any case: its logits are needed.
  const auto before_last = prompt.first(prompt.size() - 1);
  return take(need, [&](const KeptText& text) { return common_length(text.tokens, before_last); });
}

Result<std::shared_ptr<Workspace>> PrefixCache::take(const PrefixNeed& need,
                                                     std::span<const handoff::PrefixName> prefixes,
                                                     const handoff::PrefixContext& context,
                                                     std::uint32_t chunk_tokens) {
  std::uint32_t longest = 0;
  for (const handoff::PrefixName& prefix : prefixes) longest = std::max(longest, prefix.tokens);
  return take(need, [&](const KeptText& text) {
    const auto tokens = std::span(text.tokens).first(std::min<std::size_t>(longest, text.tokens.size()));
    std::uint32_t common = 0;
    for (const handoff::PrefixName& name : handoff::prefix_names(context, tokens, chunk_tokens)) {
      if (std::ranges::contains(prefixes, name)) common = name.tokens;
    }
    return common;
  });
}

PrefixCache::Room PrefixCache::take(const PrefixNeed& need, const Common& common) {
  TRY(check_room(need.tokens));
  auto best = entries_.end();
  std::uint32_t prefix = 0;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (!entry->idle() || !suits(need, entry->text)) continue;
    const std::uint32_t position = usable(need, *entry, common(entry->text));
    if (position > prefix) {
      best = entry;
      prefix = position;
    }
  }
  if (best == entries_.end()) return fresh(need.tokens, nullptr);

  const bool same_shape = best->text.origin.shape == need.origin.shape;
  const HeldTokens held{prefix, same_shape ? std::min(best->text.exact_tokens, prefix) : 0};
  // Another conversation with the same beginning: that one goes on, too.
  if (prefix < best->text.tokens.size() / 2) {
    entries_.splice(entries_.begin(), entries_, best);
    auto copied = copy(*best, held, need.tokens);
    if (copied) return copied;
    // A state that has moved on cannot be copied; that text is worth more than its beginning.
    if (copied.error().code != ErrorCode::kNoCapacity) return fresh(need.tokens, &*best);
  }
  auto workspace = std::move(best->workspace);
  entries_.erase(best);
  if (auto moved = move(std::move(workspace), held, need.tokens)) return moved;
  return fresh(need.tokens, nullptr);
}

Result<std::shared_ptr<Workspace>> PrefixCache::reserve(std::uint32_t tokens) {
  TRY(check_room(tokens));
  return fresh(tokens, nullptr);
}

// Where all of the kept texts would not be enough, none is given up.
Result<void> PrefixCache::check_room(std::uint32_t tokens) {
  if (engine_.free_cells() + cells() >= tokens) return {};
  TRY(engine_.reserve(tokens));
  return {};
}

PrefixCache::Room PrefixCache::fresh(std::uint32_t tokens, const Entry* spared) {
  const auto attempt = [&]() -> Room {
    auto workspace = std::make_shared<Workspace>(engine_);
    TRY(workspace->reserve(tokens));
    return workspace;
  };
  return with_room(attempt, spared);
}

PrefixCache::Room PrefixCache::copy(Entry& entry, HeldTokens prefix, std::uint32_t tokens) {
  auto workspace = TRY(fresh(tokens, &entry));
  TRY(workspace->copy_prefix(*entry.workspace, prefix.tokens));
  workspace->set_held(prefix);
  return workspace;
}

PrefixCache::Room PrefixCache::move(std::shared_ptr<Workspace> workspace, HeldTokens prefix, std::uint32_t tokens) {
  TRY(workspace->go_back_to(prefix.tokens));
  const auto attempt = [&]() -> Room {
    if (workspace->resize(tokens)) return workspace;
    auto larger = std::make_shared<Workspace>(engine_);
    TRY(larger->reserve(tokens));
    TRY(larger->copy_prefix(*workspace, prefix.tokens));
    return larger;
  };
  auto moved = TRY(with_room(attempt, nullptr));
  moved->set_held(prefix);
  return moved;
}

PrefixCache::Room PrefixCache::with_room(const std::function<Room()>& attempt, const Entry* spared) {
  while (true) {
    auto made = attempt();
    if (made || made.error().code != ErrorCode::kNoCapacity || !give_up_oldest(spared)) return made;
  }
}

bool PrefixCache::give_up_oldest(const Entry* spared) {
  for (auto entry = entries_.end(); entry != entries_.begin();) {
    --entry;
    if (!entry->idle() || &*entry == spared) continue;
    entries_.erase(entry);
    return true;
  }
  return false;
}

void PrefixCache::keep(std::shared_ptr<Workspace> workspace, KeptText text) {
  if (text.tokens.size() < kLeastPrefixTokens) return;
  const auto same_kind = [](const KeptText& inner, const KeptText& outer) {
    return contains(outer.layers, inner.layers) && inner.origin.loss == outer.origin.loss &&
           inner.exact_tokens <= outer.exact_tokens;
  };
  const auto begins = [&](const KeptText& inner, const KeptText& outer) {
    return same_kind(inner, outer) && inner.tokens.size() <= outer.tokens.size() &&
           common_length(inner.tokens, outer.tokens) == inner.tokens.size();
  };
  std::erase_if(entries_, [&](const Entry& entry) { return begins(entry.text, text); });
  const auto length = static_cast<std::uint32_t>(text.tokens.size());
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (!entry->idle() || !begins(text, entry->text)) continue;
    if (entry->workspace->last_position_to_continue(text.layers, length) != length) continue;
    return entries_.splice(entries_.begin(), entries_, entry);
  }
  entries_.push_front({std::move(text), std::move(workspace)});
}

std::uint32_t PrefixCache::cells() {
  trim();
  std::uint32_t cells = 0;
  for (Entry& entry : entries_) {
    if (entry.idle()) cells += entry.workspace->sequence().capacity();
  }
  return cells;
}

// Room for an answer that was never written, once nobody computes there any more.
void PrefixCache::trim() {
  for (Entry& entry : entries_) {
    if (entry.trimmed || !entry.idle()) continue;
    entry.workspace->release_all();
    entry.trimmed = entry.workspace->resize(static_cast<std::uint32_t>(entry.text.tokens.size())).has_value();
  }
}

}  // namespace baton::node
