// Internal to the room: the planner's walk through the placements. It computes a lower bound for each and predicts only
// those that could still be the best of their shape, so that nothing that might win is left out.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "plan/feasibility.h"
#include "plan/planner.h"
#include "plan/simulation.h"

namespace baton::plan {

class Search {
 public:
  Search(const Cluster& cluster, const model::ModelShape& shape, const Request& request);

  void singles();
  void disaggregated();
  void joints();
  void relays();
  // Over `devices` of them; says whether every one was weighed.
  bool pools(std::size_t devices);

  // The best of each shape, for plans on one device the best of each device; by kTie where one of them is simpler.
  std::vector<Alternative> results() const;
  // What the device would need to serve the request by itself, in the chunk size that needs least.
  double bytes_alone(DeviceIndex device) const {
    return memory_.least_stage_bytes(cluster_.devices[device], {0, layers_});
  }

 private:
  struct Best {
    std::optional<Alternative> exact;
    std::optional<Alternative> lossy;
    double score() const;
    const Alternative* pick() const;
  };

  Best& best_of(PlanShape shape) { return best_[static_cast<std::size_t>(shape)]; }
  PrefillTable& table(std::uint32_t chunk_tokens, std::uint32_t prefix_tokens);
  // Sets the candidate's devices and the table of each chunk size for them, and calls back.
  void each_chunk_size(std::span<const DeviceIndex> devices, const std::function<void(const PrefillTable&)>& weigh);
  // `devices`: two readers and the decoder. The readers end at layer `most_end` or before it.
  void weigh_splits_of_relay(const PrefillTable& prefill, const std::array<DeviceIndex, 3>& devices,
                             std::uint32_t most_end);
  bool holds_all(DeviceIndex decoder) const;
  bool may_hold(std::size_t devices) const;
  void extend_pool(std::size_t devices, std::uint32_t next_layer, double decode_s, std::uint64_t& budget);

  // Predicts the candidate with the codecs that may help, unless its bound says that it cannot win.
  void weigh(const PrefillTable& prefill, Best& best);
  void weigh_codecs(const PrefillTable& prefill, Best& best);
  double bound(const PrefillTable& prefill) const;
  double hidden_s(DeviceIndex from, DeviceIndex to, double tokens) const;
  double decode_s(DeviceIndex decoder, double worked_s) const;
  double limit(const Best& best) const { return best.score() * (1 + kTie); }
  void keep(Best& best, const Prediction& prediction);
  // Of interchangeable devices, only the first unused ones are tried.
  bool canonical(std::span<const DeviceIndex> devices) const;
  void find_twins();

  const Cluster& cluster_;
  const model::ModelShape& shape_;
  const Request& request_;
  std::uint32_t layers_;
  LinkTable links_;
  MemoryTable memory_;
  Feasibility feasibility_;
  DecodeTable decode_;
  Simulation simulation_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, PrefillTable> tables_;
  std::vector<DeviceIndex> twin_;       // the first device with the same numbers
  std::vector<double> fastest_decode_;  // of layers from here on, each on the device that is fastest for it
  std::vector<WireCodec> codecs_;       // of the request, the most exact first
  std::vector<DeviceIndex> by_decode_;  // the fastest first
  Placement candidate_;
  std::vector<Best> singles_;  // by device
  std::array<Best, 5> best_;   // by shape
};

}  // namespace baton::plan
