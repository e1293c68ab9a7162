#include "node/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace baton::node {

namespace {

// How much of what a text has in common with a prompt the request can go on behind; 0 for nothing. `last_position` is
// the last one not above a limit from which the text's layers can go on.
template <typename LastPosition>
std::uint32_t usable_position(const PrefixNeed& need, const KeptText& text, std::uint32_t common,
                              const LastPosition& last_position) {
  if (need.exactly) common = std::min(common, text.exact_tokens);
  const std::uint32_t position = last_position(common / need.grid * need.grid);
  return position % need.grid == 0 && position >= kLeastPrefixTokens ? position : 0;
}

}  // namespace

std::string shape_of_chunks(std::uint32_t chunk_tokens) { return std::to_string(chunk_tokens); }

std::uint32_t PrefixCache::usable(const PrefixNeed& need, const Entry& entry, std::uint32_t common) const {
  return usable_position(need, entry.text, common, [&](std::uint32_t limit) {
    return entry.workspace->last_position_to_continue(need.layers, limit);
  });
}

std::uint32_t PrefixCache::longest_usable(const PrefixNeed& need, std::span<const Token> tokens) const {
  std::uint32_t most = 0;
  for (const Entry& entry : entries_) {
    if (!entry.idle() || !suits(need, entry.text)) continue;
    most = std::max(most, usable(need, entry, common_length(entry.text.tokens, tokens)));
  }
  return most;
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

  if (disk_ != nullptr) disk_->use(best->text);
  const bool same_shape = best->text.origin.shape == need.origin.shape;
  const HeldTokens held{prefix, same_shape ? std::min(best->text.exact_tokens, prefix) : 0};
  // Another conversation with the same beginning: that one goes on, too, if there is room beside it.
  if (prefix < best->text.tokens.size() / 2 && has_room_beside(*best, need.tokens)) {
    use(best);
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
  if (disk_ != nullptr) disk_->begin_copies();
  if (engine_.free_cells() + cells() >= tokens) return {};
  TRY(engine_.reserve(tokens));
  return {};
}

bool PrefixCache::has_room_beside(const Entry& entry, std::uint32_t tokens) {
  return engine_.free_cells() + cells() - entry.workspace->sequence().capacity() >= tokens;
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
    entry->lent.reset();
    if (disk_ != nullptr && !on_disk(*entry)) disk_->write_copy(entry->held());
    entries_.erase(entry);
    return true;
  }
  return false;
}

void PrefixCache::keep(std::shared_ptr<Workspace> workspace, KeptText text) {
  if (text.tokens.size() < kLeastPrefixTokens) return;
  std::erase_if(entries_, [&](const Entry& entry) { return begins(entry.text, text); });
  const auto length = static_cast<std::uint32_t>(text.tokens.size());
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (!entry->idle() || !begins(text, entry->text)) continue;
    if (entry->workspace->last_position_to_continue(text.layers, length) != length) continue;
    return use(entry);
  }
  entries_.push_front({.text = std::move(text), .workspace = std::move(workspace)});
}

void PrefixCache::use(std::list<Entry>::iterator entry) {
  entry->used_at = KeptFolder::UsedAt::clock::now();
  entry->cannot_be_written = false;  // others may have been used longer ago now
  entries_.splice(entries_.begin(), entries_, entry);
}

std::shared_ptr<const ReadingBack> PrefixCache::read_back(const PrefixNeed& need, std::span<const Token> prompt,
                                                          std::shared_ptr<const void> use, TimePoint time) {
  auto reading = std::make_shared<ReadingBack>();
  reading->ended = true;
  const auto before_last = prompt.first(prompt.size() - 1);
  const auto wanted = [&](const KeptHeader& header) -> std::uint32_t {
    if (!suits(need, header.text)) return 0;
    const std::uint32_t common = common_length(header.text.tokens, before_last);
    return usable_position(need, header.text, common,
                           [&](std::uint32_t limit) { return last_position_to_continue(header, limit); });
  };
  const auto found = disk_ && !reads_late_ ? disk_->find(wanted, longest_usable(need, before_last)) : std::nullopt;
  if (!found || !check_room(need.tokens)) return reading;
  auto workspace = fresh(need.tokens, nullptr);
  if (!workspace) return reading;
  // No more of it than this request can use.
  KeptText text = found->header.text;
  text.tokens.resize(found->tokens);
  text.exact_tokens = std::min(text.exact_tokens, found->tokens);
  reading->rows = disk_->read(*found, *std::move(workspace),
                              [weak = weak_from_this(), waited_for = std::weak_ptr(reading),
                               text = std::move(text)](const Result<void>& read) mutable {
                                const auto self = weak.lock();
                                if (!self) return;
                                self->reads_late_ = false;
                                const auto still_waited_for = waited_for.lock();
                                if (!still_waited_for || still_waited_for->ended) return;
                                self->on_read(*still_waited_for, std::move(text), read);
                              });
  reading->ended = reading->rows == nullptr;
  if (reading->ended) return reading;
  reading->until = time + found->patience;
  reading->use = std::move(use);
  std::erase_if(readings_, [](const auto& other) { return other.expired(); });
  readings_.push_back(reading);
  return reading;
}

void PrefixCache::on_read(ReadingBack& reading, KeptText text, const Result<void>& read) {
  auto workspace = reading.rows->end();
  reading = {.ended = true};
  if (read) keep(std::move(workspace), std::move(text));
}

void PrefixCache::end_readings(TimePoint time) {
  for (const auto& weak : readings_) {
    const auto reading = weak.lock();
    if (reading && reading->until <= time) *reading = {.ended = true};
  }
}

std::optional<TimePoint> PrefixCache::end_late_readings(TimePoint time) {
  std::optional<TimePoint> next;
  for (const auto& weak : readings_) {
    const auto reading = weak.lock();
    if (!reading || reading->ended) continue;
    if (reading->until > time) {
      next = std::min(next.value_or(reading->until), reading->until);
      continue;
    }
    reads_late_ = true;
    log::warning("a kept text was not read back from disk in time, and is computed again");
  }
  end_readings(time);
  return next;
}

void PrefixCache::write_ahead() {
  if (disk_ == nullptr || !disk_->is_ready()) return;
  if (std::ranges::any_of(entries_, [](const Entry& entry) { return entry.lent != nullptr; })) return;
  trim();
  std::uint32_t cells = engine_.free_cells();
  Entry* next = nullptr;
  for (Entry& entry : entries_) {
    if (!entry.idle() || !entry.trimmed) continue;
    if (on_disk(entry)) {
      cells += entry.workspace->sequence().capacity();
    } else if (!entry.cannot_be_written) {
      next = &entry;
    }
  }
  if (next == nullptr || cells >= engine_.options().context_tokens / 2) return;
  next->writing = ++writings_;
  next->lent =
      disk_->write(next->held(), [weak = weak_from_this(), writing = next->writing](const Result<void>& written) {
        if (const auto self = weak.lock()) self->on_written(writing, written);
      });
  if (next->lent == nullptr) next->cannot_be_written = true;
}

void PrefixCache::on_written(std::uint64_t writing, const Result<void>& written) {
  const auto entry = std::ranges::find(entries_, writing, &Entry::writing);
  if (entry == entries_.end()) return;
  entry->lent.reset();
  if (!written) entry->cannot_be_written = true;
}

LastWrites PrefixCache::write_all(TimePoint until) {
  if (disk_ == nullptr) return {};
  end_readings(TimePoint::max());
  // What was used last has the first right to the room on disk.
  std::vector<std::unique_ptr<LentRows>> rows;
  for (Entry& entry : entries_) {
    entry.lent.reset();
    if (!entry.idle() || on_disk(entry)) continue;
    if (auto lent = disk_->write(entry.held(), [](const Result<void>&) {})) rows.push_back(std::move(lent));
  }
  entries_.clear();
  return {disk_->when_written(), std::move(rows), until};
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
