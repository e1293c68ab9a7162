// What ended requests have computed: texts whose rows are still in the KV cache. A request that begins like one of them
// goes on from there. A text stays until its cells are needed; the one that was used longest ago goes first
// (docs/adr/0014-prefix-cache.md), to disk where the node has a folder for that (docs/adr/0019-kept-texts-on-disk.md).
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "handoff/prefix.h"
#include "node/disk_texts.h"
#include "node/kept_text.h"
#include "node/workspace.h"

namespace baton::node {

// A text that is being read back from disk, or was. Whoever waits for it holds it: once nobody does, it is given up.
struct ReadingBack {
  bool ended = false;
  // Of one that has not ended: when it is given up, what it reads into, and what is held meanwhile.
  TimePoint until = {};
  std::unique_ptr<LentRows> rows = nullptr;
  std::shared_ptr<const void> use = nullptr;
};

// Lives on the loop's thread. The engine must outlive it.
class PrefixCache : public std::enable_shared_from_this<PrefixCache> {
 public:
  // Without `disk`, what has to go is gone.
  explicit PrefixCache(engine::Engine& engine, std::unique_ptr<DiskTexts> disk = nullptr)
      : engine_(engine), disk_(std::move(disk)) {}
  ~PrefixCache() { end_readings(TimePoint::max()); }
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Room, and in it the longest beginning of the prompt that is kept (Workspace::held()), but for its last token.
  // kNoCapacity where there is no room, though every kept text went whose cells are not in use.
  Result<std::shared_ptr<Workspace>> take(const PrefixNeed& need, std::span<const Token> prompt);
  // The same for the longest of the prefixes that a peer names.
  Result<std::shared_ptr<Workspace>> take(const PrefixNeed& need, std::span<const handoff::PrefixName> prefixes,
                                          const handoff::PrefixContext& context, std::uint32_t chunk_tokens);
  // Room alone.
  Result<std::shared_ptr<Workspace>> reserve(std::uint32_t tokens);
  // The longest common beginning of the prompt and a text that take() may use, wherever its layers can go on.
  std::uint32_t common_tokens(const PrefixNeed& need, std::span<const Token> prompt) const;

  // The text's tokens are computed; whoever else still uses the workspace only reads, or writes behind them. A text
  // that is the beginning of another is not kept twice.
  void keep(std::shared_ptr<Workspace> workspace, KeptText text);

  // That could be given up at once.
  std::uint32_t cells();

  // Whether it is known by now what is on disk.
  bool knows_disk() const { return disk_ == nullptr || disk_->is_ready(); }
  // Where a text on disk has a longer beginning of the prompt than any here, and reading that is faster than computing
  // it: reads it back, to be taken when that has ended. `use` is held meanwhile, and the time is now. Where nothing is
  // to be read it has ended already.
  std::shared_ptr<const ReadingBack> read_back(const PrefixNeed& need, std::span<const Token> prompt,
                                               std::shared_ptr<const void> use, TimePoint time);
  // Gives up what should have been read by that time; until that shows that it was given up, nothing more is read. When
  // to call it again, if something is still being read.
  std::optional<TimePoint> end_late_readings(TimePoint time);
  // Writes the text that would go next to disk, unless half of all cells could be had without losing anything. Call it
  // now and then.
  void write_ahead();
  // Forgets all texts, and writes those that are not on disk yet, what was used last first and as far as it comes by
  // that time, but for what a pass or a connection still uses. The engine must be there until that is over.
  LastWrites write_all(TimePoint until);

 private:
  struct Entry {
    KeptText text;
    std::shared_ptr<Workspace> workspace;
    KeptFolder::UsedAt used_at = KeptFolder::UsedAt::clock::now();
    bool trimmed = false;
    bool cannot_be_written = false;            // ahead of its going
    std::uint64_t writing = 0;                 // the number of its writing
    std::unique_ptr<LentRows> lent = nullptr;  // while it is being written; last: it ends before the rest
    // Else a pass or a connection still uses it.
    bool idle() const { return workspace.use_count() == (lent ? 2 : 1); }
    DiskTexts::Held held() const { return {text, workspace, used_at}; }
  };
  using Room = Result<std::shared_ptr<Workspace>>;
  // Tokens at the beginning of a text that are wanted.
  using Common = std::function<std::uint32_t(const KeptText&)>;

  Room take(const PrefixNeed& need, const Common& common);
  Result<void> check_room(std::uint32_t tokens);
  // Whether so many tokens have room without giving up that text.
  bool has_room_beside(const Entry& entry, std::uint32_t tokens);
  std::uint32_t usable(const PrefixNeed& need, const Entry& entry, std::uint32_t common) const;
  std::uint32_t longest_usable(const PrefixNeed& need, std::span<const Token> tokens) const;
  Room fresh(std::uint32_t tokens, const Entry* spared);
  Room copy(Entry& entry, HeldTokens prefix, std::uint32_t tokens);
  Room move(std::shared_ptr<Workspace> workspace, HeldTokens prefix, std::uint32_t tokens);
  // Calls until there is room, or nothing left to give up.
  Room with_room(const std::function<Room()>& attempt, const Entry* spared);
  bool give_up_oldest(const Entry* spared);
  void trim();
  void use(std::list<Entry>::iterator entry);
  bool on_disk(const Entry& entry) const { return disk_ != nullptr && disk_->has(entry.text); }
  void on_written(std::uint64_t writing, const Result<void>& written);
  void on_read(ReadingBack& reading, KeptText text, const Result<void>& read);
  // Those whose time is over by then.
  void end_readings(TimePoint time);

  engine::Engine& engine_;
  const std::unique_ptr<DiskTexts> disk_;
  std::list<Entry> entries_;    // used last first
  std::uint64_t writings_ = 0;  // so far
  std::vector<std::weak_ptr<ReadingBack>> readings_;
  bool reads_late_ = false;  // what was given up as late is not over on the reading thread
};

// What decides the last bits of rows that a node computes for a peer.
std::string shape_of_chunks(std::uint32_t chunk_tokens);

}  // namespace baton::node
