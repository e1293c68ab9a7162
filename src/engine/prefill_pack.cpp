#include "engine/prefill_pack.h"

#include <algorithm>
#include <array>
#include <format>
#include <utility>

namespace baton::engine {

namespace {

constexpr std::array<std::pair<PrefillPack, std::string_view>, 5> kNames = {{{PrefillPack::kAuto, "auto"},
                                                                             {PrefillPack::kBf16, "bf16"},
                                                                             {PrefillPack::kInt8, "int8"},
                                                                             {PrefillPack::kF32, "f32"},
                                                                             {PrefillPack::kOff, "off"}}};

}  // namespace

std::string_view prefill_pack_name(PrefillPack pack) {
  return std::ranges::find(kNames, pack, &decltype(kNames)::value_type::first)->second;
}

Result<PrefillPack> parse_prefill_pack(std::string_view name) {
  const auto found = std::ranges::find(kNames, name, &decltype(kNames)::value_type::second);
  if (found != kNames.end()) return found->first;
  return fail(ErrorCode::kInvalidArgument,
              std::format("--prefill-pack is auto, bf16, int8, f32 or off, not '{}'", name));
}

}  // namespace baton::engine
