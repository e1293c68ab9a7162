#include "node/prefix_names.h"

#include <algorithm>
#include <format>

namespace baton::node {

namespace {

// An extension of Open: names of the prefixes that end at the borders before the prefix's end, the last first.
constexpr std::uint16_t kEarlierNames = 1;
constexpr std::size_t kNameBytes = sizeof(Sha256::bytes);
constexpr std::size_t kMostEarlierNames = 63;

}  // namespace

handoff::PrefixContext prefix_context(const handoff::Open& open) {
  return {.model = open.model, .rope = {}, .cache_type = {}, .provenance = std::string(dtype_name(open.codec))};
}

void name_prefixes(handoff::Open& open, std::span<const Token> prompt) {
  const auto names = handoff::prefix_names(prefix_context(open), prompt.first(open.prefix_tokens), open.chunk_tokens);
  open.prefix = names.back().name;
  handoff::Extension earlier{.id = kEarlierNames, .value = {}};
  for (std::size_t back = 1; back < names.size() && back <= kMostEarlierNames; ++back) {
    const auto& name = names[names.size() - 1 - back].name.bytes;
    earlier.value.insert(earlier.value.end(), name.begin(), name.end());
  }
  if (!earlier.value.empty()) open.extensions.push_back(std::move(earlier));
}

Result<std::vector<handoff::PrefixName>> named_prefixes(const handoff::Open& open) {
  if (open.prefix_tokens == 0) return std::vector<handoff::PrefixName>();
  std::vector<handoff::PrefixName> names{{.tokens = open.prefix_tokens, .name = open.prefix}};
  const auto earlier = std::ranges::find(open.extensions, kEarlierNames, &handoff::Extension::id);
  if (earlier == open.extensions.end()) return names;
  const std::size_t count = earlier->value.size() / kNameBytes;
  if (earlier->value.size() % kNameBytes != 0 || count >= open.prefix_tokens / open.chunk_tokens) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("{} bytes do not name prefixes shorter than {} tokens in chunks of {}",
                            earlier->value.size(), open.prefix_tokens, open.chunk_tokens));
  }
  for (std::size_t index = 0; index < count; ++index) {
    handoff::PrefixName& name = names.emplace_back();
    name.tokens = names[index].tokens - open.chunk_tokens;
    std::ranges::copy(std::span(earlier->value).subspan(index * kNameBytes, kNameBytes), name.name.bytes.begin());
  }
  return names;
}

Result<void> check_prefixes(const handoff::Open& open, std::span<const Token> prompt) {
  const auto named = TRY(named_prefixes(open));
  if (named.empty()) return {};
  const auto names = handoff::prefix_names(prefix_context(open), prompt.first(open.prefix_tokens), open.chunk_tokens);
  const auto begins_so = [&](const handoff::PrefixName& name) {
    return names[name.tokens / open.chunk_tokens - 1] == name;
  };
  if (std::ranges::all_of(named, begins_so)) return {};
  return fail(ErrorCode::kInvalidArgument, "the prompt does not begin with the prefix that its request names");
}

}  // namespace baton::node
