// Internal to the room: a request played through on paper. The prefill is a pipeline of stages over chunks, solved
// chunk by chunk; K and V leave a stage layer by layer while it computes, hidden states after each chunk, and both
// share interfaces, hidden states going first.
//
// When the last byte has come follows from one law, whatever the order of service: an interface of rate B that idles
// only when nothing waits is done at the maximum over all moments t of t + (bytes that arrive from t on) / B. Within a
// chunk a stage's KV counts as a steady flow from its first layer's end to its last's, the last slice arriving whole.
// Hidden states wait for other hidden states only, so that no choice of codec changes the pipeline.
#pragma once

#include <span>
#include <vector>

#include "plan/cost_table.h"
#include "plan/links.h"
#include "plan/prediction.h"

namespace baton::plan {

// Bytes that arrive at an interface between two moments, at a steady rate, and then one slice at once; as seconds that
// the interface needs for them.
struct Flow {
  double begin_s = 0;
  double end_s = 0;
  double busy_s = 0;
  double last_slice_s = 0;
};

// When an interface has passed the flows of all sources. Those of one source are in order and do not overlap.
double drained_at(std::span<const std::vector<Flow>> sources);

// Seconds that a device really takes for its first so many cold ones.
double warmed(const Device& device, double cold_s);

// One request on one cluster; it keeps its buffers from one placement to the next.
class Simulation {
 public:
  Simulation(const Cluster& cluster, const model::ModelShape& shape, const Request& request, const LinkTable& links);

  // The placement must be valid, its nodes linked and its memory checked; `prefill` is for its chunk size.
  // memory_bytes is left to the caller.
  Prediction run(const Placement& placement, const PrefillTable& prefill, const DecodeTable& decode);

  // Of the last run: whether KV on its way was what decoding waited for, so that a shorter codec might help.
  bool waited_for_kv() const { return waited_for_kv_; }

  // What travels of these layers' memory in all chunks.
  double kept_bytes(LayerRange layers, WireCodec codec, const PrefillTable& table) const;
  double hidden_bytes(double tokens) const { return kHiddenBytesPerValue * shape_.embedding_width * tokens; }
  // What logits and the drawn token take on their way in each step that begins on one node and ends on another.
  double step_trips_s(std::uint16_t first, std::uint16_t last) const;

 private:
  double logits_trip_s(std::uint16_t from, std::uint16_t coordinator) const;
  struct StageRun {
    double free_s = 0;    // when it may begin the next chunk
    double busy_s = 0;    // cold seconds of work so far
    double worked_s = 0;  // the same as it really took
    double hidden_free_s = 0;
    std::vector<Flow> spans;  // when each chunk was computed; busy is not filled in
  };

  void compute(const Placement& placement, const PrefillTable& table);
  double kv_complete(const Placement& placement, const PrefillTable& table);
  double ingress_drained(const Placement& placement, const PrefillTable& table);
  double decode(const Placement& placement, const DecodeTable& table);
  // Seconds that an interface needs for what layers keep.
  struct Pace {
    double per_value_s = 0;  // of K and V
    double per_state_byte_s = 0;
  };
  void add_kept(std::size_t stage, const PrefillTable& table, LayerRange layers, Pace pace);
  double kv_values_per_token(LayerRange layers) const { return kv_values_[layers.end] - kv_values_[layers.begin]; }
  double state_bytes_per_chunk(LayerRange layers) const {
    return state_bytes_[layers.end] - state_bytes_[layers.begin];
  }
  void add_hidden(std::size_t stage, const PrefillTable& table, double bytes_per_second);
  double prompt_tokens(const PrefillTable& table) const {
    return table.chunks().empty() ? 0 : request_.prompt_tokens - table.chunks().front().first_position;
  }

  static constexpr double kHiddenBytesPerValue = 4;  // F32

  const Cluster& cluster_;
  const model::ModelShape& shape_;
  const Request& request_;
  const LinkTable& links_;
  std::vector<double> kv_values_;    // of a token, sum of the layers before
  std::vector<double> state_bytes_;  // the same of states
  std::vector<StageRun> stages_;
  std::vector<std::vector<Flow>> sources_;
  double transfer_s_ = 0;
  bool waited_for_kv_ = false;
};

}  // namespace baton::plan
