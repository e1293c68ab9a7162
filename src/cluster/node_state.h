// What a node tells the others of itself. Plain values; as JSON they have these members' names.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cluster/messages.h"

namespace baton::cluster {

struct DeviceState {
  std::string name;
  std::string description;
  std::uint64_t memory_bytes = 0;
  std::uint64_t free_bytes = 0;
  bool operator==(const DeviceState&) const = default;
};

// With a model, measured here; 0 where nothing has been yet.
struct RateState {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  // The planner's coefficients (src/plan/rates.h).
  double flops_per_second = 0;
  double attention_factor = 0;
  double bytes_per_second = 0;
  bool operator==(const RateState&) const = default;
};

struct ModelState {
  std::string name;
  std::string digest;  // SHA-256 of its file
  std::uint32_t layers_begin = 0;
  std::uint32_t layers_end = 0;
  std::uint32_t layer_count = 0;
  std::uint32_t context_tokens = 0;
  std::uint32_t chunk_tokens = 0;  // the most that is computed at once
  bool loaded = true;              // else it would have to be, before work with it could begin
  RateState rates = {};
  std::uint32_t free_cells = 0;
  bool operator==(const ModelState&) const = default;
};

struct LoadState {
  std::uint32_t transfers = 0;
  std::uint32_t streams = 0;     // answers that are being written for whoever asked here
  double queue_s = 0;            // of prompts that are being read, and wait to be
  std::uint32_t free_cells = 0;  // of that model
  bool operator==(const LoadState&) const = default;
};

// To another node; 0 where nothing has been measured yet.
struct LinkState {
  std::string peer;  // its id
  double round_trip_ms = 0;
  double to_bytes_per_second = 0;
  double from_bytes_per_second = 0;
  bool operator==(const LinkState&) const = default;
};

struct NodeState {
  std::vector<std::string> addresses;  // host:port
  std::vector<DeviceState> devices;
  std::vector<ModelState> models;
  RateState rates;  // with the first of the models that are loaded
  LoadState load;
  std::vector<LinkState> links;
  bool operator==(const NodeState&) const = default;
};

// A node's own state, cut into sections that are sent when they change.
class StateLog {
 public:
  // The sections that differ from before, each with a new version.
  State update(const NodeState& state);
  // All of them, for a peer that has none.
  State all() const;

 private:
  std::uint64_t version_ = 0;
  std::map<std::string, Section> sections_;
};

// What another node has told of itself over one connection.
class StateView {
 public:
  // Takes sections that are newer than what is there; unknown ones are left out. Lists and texts are cut to a length
  // that no honest node needs, and what is not printable becomes '?'. kProtocol for JSON of another shape.
  Result<void> take(const State& state);
  const NodeState& state() const { return state_; }

 private:
  std::map<std::string, std::uint64_t> versions_;
  NodeState state_;
};

}  // namespace baton::cluster
