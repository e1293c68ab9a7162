#include "cluster/node_state.h"

#include <algorithm>
#include <format>
#include <glaze/glaze.hpp>

#include "base/log.h"

namespace baton::cluster {

namespace {

constexpr glz::opts kReadState{.error_on_unknown_keys = false, .error_on_missing_keys = false};

constexpr std::size_t kMaxEntries = 16;
constexpr std::size_t kMaxTextBytesShown = 256;

// Bounds what a peer says, which is kept, and shown on terminals.
template <typename Section>
void bound(Section&) {}  // numbers alone

void bound(std::string& text) {
  if (text.size() > kMaxTextBytesShown) text.resize(kMaxTextBytesShown);
  std::ranges::replace_if(text, [](char c) { return c < ' ' || c > '~'; }, '?');
}

void bound(DeviceState& device) {
  bound(device.name);
  bound(device.description);
}

void bound(ModelState& model) {
  bound(model.name);
  bound(model.digest);
}

void bound(LinkState& link) { bound(link.peer); }

template <typename Entry>
void bound(std::vector<Entry>& entries) {
  if (entries.size() > kMaxEntries) entries.resize(kMaxEntries);
  for (Entry& entry : entries) bound(entry);
}

// Calls with the name and the member of each section.
template <typename State, typename Visitor>
void for_each_section(State& state, const Visitor& visit) {
  visit("addresses", state.addresses);
  visit("devices", state.devices);
  visit("models", state.models);
  visit("rates", state.rates);
  visit("load", state.load);
  visit("links", state.links);
}

}  // namespace

State StateLog::update(const NodeState& state) {
  State changed;
  for_each_section(state, [&](const char* name, const auto& value) {
    const std::string json = glz::write_json(value).value_or("");
    Section& section = sections_[name];
    if (section.json == json) return;
    if (json.size() > kMaxSectionBytes) {
      log::warning("this node says too much of its {}: the others will not hear it", name);
      return;
    }
    section = {.name = name, .version = ++version_, .json = json};
    changed.sections.push_back(section);
  });
  return changed;
}

State StateLog::all() const {
  State state;
  for (const auto& [name, section] : sections_) {
    if (section.version != 0) state.sections.push_back(section);
  }
  return state;
}

Result<void> StateView::take(const State& state) {
  for (const Section& section : state.sections) {
    bool malformed = false;
    for_each_section(state_, [&](const char* name, auto& value) {
      if (section.name != name || section.version <= versions_[name]) return;
      std::remove_reference_t<decltype(value)> read{};
      if (glz::read<kReadState>(read, section.json)) {
        malformed = true;
        return;
      }
      bound(read);
      versions_[name] = section.version;
      value = std::move(read);
    });
    if (malformed) {
      return fail(ErrorCode::kProtocol, std::format("what the peer says of its {} is malformed", section.name));
    }
  }
  return {};
}

}  // namespace baton::cluster
