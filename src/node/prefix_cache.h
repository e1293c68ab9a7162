// What ended requests have computed: texts whose rows are still in the KV cache. A request that begins like one of them
// goes on from there. A text stays until its cells are needed; the one that was used longest ago goes first
// (docs/adr/0014-prefix-cache.md).
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/layer_range.h"
#include "handoff/prefix.h"
#include "node/workspace.h"

namespace baton::node {

// A common beginning shorter than this is computed again.
inline constexpr std::uint32_t kLeastPrefixTokens = 16;

// How rows came about.
struct PrefixOrigin {
  std::string loss;   // the lossy formats that they went through; empty: none
  std::string shape;  // all that decides their last bits: who computed what, in which chunks
};

struct KeptText {
  std::vector<Token> tokens;  // computed, all of them, in `layers`
  LayerRange layers;
  PrefixOrigin origin;
  std::uint32_t exact_tokens = 0;  // of them, the first, which have the very bits that origin.shape gives
};

// What a request needs, and which beginnings it may take.
struct PrefixNeed {
  std::uint32_t tokens = 0;  // room for so many
  LayerRange layers;
  PrefixOrigin origin;     // rows with a loss are only for requests that ask for the same
  std::uint32_t grid = 1;  // it begins at a multiple of this
  bool exactly = false;    // only what has the very bits that origin.shape gives
};

// Lives on the loop's thread. The engine must outlive it.
class PrefixCache {
 public:
  explicit PrefixCache(engine::Engine& engine) : engine_(engine) {}

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

 private:
  struct Entry {
    KeptText text;
    std::shared_ptr<Workspace> workspace;
    bool trimmed = false;
    // Else a pass or a connection still uses it.
    bool idle() const { return workspace.use_count() == 1; }
  };
  using Room = Result<std::shared_ptr<Workspace>>;
  // Tokens at the beginning of a text that are wanted.
  using Common = std::function<std::uint32_t(const KeptText&)>;

  static bool suits(const PrefixNeed& need, const KeptText& text);
  Room take(const PrefixNeed& need, const Common& common);
  Result<void> check_room(std::uint32_t tokens);
  std::uint32_t usable(const PrefixNeed& need, const Entry& entry, std::uint32_t common) const;
  Room fresh(std::uint32_t tokens, const Entry* spared);
  Room copy(Entry& entry, HeldTokens prefix, std::uint32_t tokens);
  Room move(std::shared_ptr<Workspace> workspace, HeldTokens prefix, std::uint32_t tokens);
  // Calls until there is room, or nothing left to give up.
  Room with_room(const std::function<Room()>& attempt, const Entry* spared);
  bool give_up_oldest(const Entry* spared);
  void trim();

  engine::Engine& engine_;
  std::list<Entry> entries_;  // used last first
};

// What decides the last bits of rows that a node computes for a peer.
std::string shape_of_chunks(std::uint32_t chunk_tokens);

}  // namespace baton::node
