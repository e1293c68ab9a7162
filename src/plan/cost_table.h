// Internal to the room: what every layer of a request costs on every device, as prefix sums.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/chunk_grid.h"
#include "model/shape.h"
#include "plan/cluster.h"
#include "plan/prediction.h"

namespace baton::plan {

// K and V of one token in one layer, values.
double kv_values(const model::ModelShape& shape, std::uint32_t layer);
// The state that the layer keeps of a sequence, which travels once a chunk in this very form.
double state_bytes(const model::ModelShape& shape, std::uint32_t layer);

// Seconds of the prefill in one chunk size, after one prefix; on a device that writes answers, with the steps between.
class PrefillTable {
 public:
  PrefillTable(const Cluster& cluster, const model::ModelShape& shape, const Request& request,
               std::uint32_t chunk_tokens, std::uint32_t prefix_tokens);

  const std::vector<Chunk>& chunks() const { return chunks_; }
  std::uint32_t chunk_tokens() const { return chunk_tokens_; }
  // One pass of a chunk over the layers, the pass's overhead included.
  double pass(DeviceIndex device, std::size_t chunk, LayerRange layers) const {
    const double* sums = &work_[(device * chunks_.size() + chunk) * stride_];
    return pass_overhead_[device] + sums[layers.end] - sums[layers.begin];
  }
  // All chunks together.
  double load(DeviceIndex device, LayerRange layers) const {
    const double* sums = &load_[device * stride_];
    return static_cast<double>(chunks_.size()) * pass_overhead_[device] + sums[layers.end] - sums[layers.begin];
  }
  // The output head for the last position.
  double head(DeviceIndex device) const { return head_[device]; }
  // Of these times, the part in which the device is the prompt's, and the answers that it writes wait.
  double own_share(DeviceIndex device) const { return 1 / stretch_[device]; }

 private:
  // Makes room for the steps of the answers that are written.
  void stretch(DeviceIndex index, const Device& device, const model::ModelShape& shape);

  std::uint32_t chunk_tokens_;
  std::vector<Chunk> chunks_;
  std::size_t stride_;
  std::vector<double> work_;  // [device][chunk][layer]: sum of the layers before
  std::vector<double> load_;  // [device][layer]
  std::vector<double> head_;
  std::vector<double> pass_overhead_;
  std::vector<double> stretch_;
};

// Seconds of all decode steps, which depend on nothing but the device; and the layers' bytes.
class DecodeTable {
 public:
  DecodeTable(const Cluster& cluster, const model::ModelShape& shape, const Request& request);

  double steps() const { return steps_; }
  // Layers of all steps, overhead of the passes included; with the head where the layers end the model.
  double time(DeviceIndex device, LayerRange layers) const {
    const double* sums = &sums_[device * stride_];
    const double head = layers.end + 1 == stride_ ? head_[device] : 0;
    return steps_ * pass_overhead_[device] + sums[layers.end] - sums[layers.begin] + head;
  }
  // The same without overhead and head, for bounds.
  double layers_only(DeviceIndex device, LayerRange layers) const {
    return sums_[device * stride_ + layers.end] - sums_[device * stride_ + layers.begin];
  }
  // Of this request's KV, read by all steps in these layers: what other streams on the device wait for.
  double kv_read_bytes(LayerRange layers) const { return kv_read_[layers.end] - kv_read_[layers.begin]; }

 private:
  double steps_;
  std::size_t stride_;
  std::vector<double> sums_;  // [device][layer]
  std::vector<double> head_;
  std::vector<double> pass_overhead_;
  std::vector<double> kv_read_;
};

// Bytes that stages occupy.
class MemoryTable {
 public:
  // For these chunk sizes, of which there is at least one.
  MemoryTable(const model::ModelShape& shape, const Request& request, std::span<const std::uint32_t> chunk_sizes);

  // Weights, KV and states of the layers (the whole context's, or a window and a chunk where the engine keeps no more),
  // the embedding where they begin the model and the head where they end it, and activations of a chunk. The chunk size
  // must be one of the table's.
  double stage_bytes(const Device& device, LayerRange layers, std::uint32_t chunk_tokens) const;
  // In the chunk size that needs least: not always the smallest, since it decides which windows are worth keeping.
  double least_stage_bytes(const Device& device, LayerRange layers) const;

 private:
  struct ChunkSize {
    std::uint32_t tokens = 0;
    std::vector<double> kept;  // rows and states, sum of the layers before
  };
  double bytes_in(const ChunkSize& size, const Device& device, LayerRange layers) const;

  std::vector<double> weights_;  // sum of the layers before
  std::vector<ChunkSize> sizes_;
  double embedding_bytes_;
  double head_bytes_;
  double activation_bytes_per_token_;
  double logits_bytes_;
};

}  // namespace baton::plan
