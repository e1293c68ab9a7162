#include "plan/cost_table.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "model/cost.h"
#include "model/kv_rows.h"
#include "plan/time_slice.h"

namespace baton::plan {

namespace {

// Steps whose cost is computed; more are stood for by these, since it changes slowly with the position.
constexpr double kSampledSteps = 16;

// `attention_flops` are among the cost's.
double roofline(const Device& device, const model::Cost& cost, double attention_flops) {
  const double flops = cost.flops + (device.attention_factor - 1) * attention_flops;
  return std::max(flops / device.flops_per_second, cost.bytes / device.bytes_per_second);
}

}  // namespace

double kv_values(const model::ModelShape& shape, std::uint32_t layer) {
  const model::LayerMemory& memory = shape.layers[layer].memory;
  return static_cast<double>(memory.k_width) + memory.v_width;
}

double state_bytes(const model::ModelShape& shape, std::uint32_t layer) {
  return sizeof(float) * static_cast<double>(shape.layers[layer].memory.state_width);
}

PrefillTable::PrefillTable(const Cluster& cluster, const model::ModelShape& shape, const Request& request,
                           std::uint32_t chunk_tokens, std::uint32_t prefix_tokens)
    : chunk_tokens_(chunk_tokens),
      chunks_(chunk_grid(prefix_tokens, request.prompt_tokens, chunk_tokens)),
      stride_(shape.layer_count + 1) {
  const std::size_t devices = cluster.devices.size();
  work_.assign(devices * chunks_.size() * stride_, 0);
  load_.assign(devices * stride_, 0);
  for (std::size_t chunk = 0; chunk < chunks_.size(); ++chunk) {
    const model::TokenRun run{chunks_[chunk].first_position, chunks_[chunk].tokens};
    for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
      const double kv_bytes = kv_values(shape, layer) * request.kv_bytes_per_value;
      const model::Cost cost = model::layer_cost(shape, layer, {&run, 1}, kv_bytes);
      const double attention_flops = model::attention_flops(shape, layer, {&run, 1});
      for (std::size_t index = 0; index < devices; ++index) {
        const Device& device = cluster.devices[index];
        double* sums = &work_[(index * chunks_.size() + chunk) * stride_];
        sums[layer + 1] = sums[layer] + device.layer_overhead_s + roofline(device, cost, attention_flops);
      }
    }
    for (std::size_t index = 0; index < devices; ++index) {
      const double* sums = &work_[(index * chunks_.size() + chunk) * stride_];
      for (std::size_t layer = 0; layer < stride_; ++layer) load_[index * stride_ + layer] += sums[layer];
    }
  }
  const model::Cost head = model::head_cost(shape, 1);
  for (const Device& device : cluster.devices) {
    head_.push_back(roofline(device, head, 0));
    pass_overhead_.push_back(device.pass_overhead_s);
  }
  stretch_.assign(devices, 1);
  for (std::size_t index = 0; index < devices; ++index) {
    if (cluster.devices[index].streams > 0 && !chunks_.empty()) {
      stretch(static_cast<DeviceIndex>(index), cluster.devices[index], shape);
    }
  }
}

// As if the answers were of this model, which most often they are.
void PrefillTable::stretch(DeviceIndex index, const Device& device, const model::ModelShape& shape) {
  const double layers = shape.layer_count;
  const model::TokenRun row{0, 1};
  double step_s = device.pass_overhead_s + roofline(device, model::head_cost(shape, device.streams), 0);
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
    model::Cost batch = model::layer_cost(shape, layer, {&row, 1}, 0);
    batch.flops *= device.streams;
    batch.bytes += device.stream_bytes / layers;
    step_s += device.layer_overhead_s + roofline(device, batch, 0);
  }
  double* work = &work_[index * chunks_.size() * stride_];
  const double layer_s = work[shape.layer_count] / layers;
  const double piece_s = std::max(seconds(piece_time(from_seconds(step_s))), layer_s);
  stretch_[index] = 1 + step_s / piece_s;
  for (double& sum : std::span(work, chunks_.size() * stride_)) sum *= stretch_[index];
  for (double& sum : std::span(&load_[index * stride_], stride_)) sum *= stretch_[index];
  head_[index] *= stretch_[index];
  pass_overhead_[index] *= stretch_[index];
}

DecodeTable::DecodeTable(const Cluster& cluster, const model::ModelShape& shape, const Request& request)
    : steps_(std::max(0.0, request.output_tokens - 1)), stride_(shape.layer_count + 1) {
  const double samples = std::min(std::ceil(steps_), kSampledSteps);
  const double weight = samples > 0 ? steps_ / samples : 0;
  sums_.assign(cluster.devices.size() * stride_, 0);
  kv_read_.assign(stride_, 0);
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
    const double kv_bytes = kv_values(shape, layer) * request.kv_bytes_per_value;
    double kv_read = 0;
    std::vector<double> seconds(cluster.devices.size(), 0);
    for (double sample = 0; sample < samples; ++sample) {
      // The middle of the steps that it stands for; where each stands for itself, the step itself.
      const double step = weight == 1 ? sample : (sample + 0.5) * weight - 0.5;
      const model::TokenRun run{request.prompt_tokens + static_cast<std::uint64_t>(std::max(0.0, std::round(step))), 1};
      const model::Cost cost = model::layer_cost(shape, layer, {&run, 1}, kv_bytes);
      const double attention_flops = model::attention_flops(shape, layer, {&run, 1});
      kv_read += weight * (cost.bytes - model::layer_cost(shape, layer, {&run, 1}, 0).bytes);
      for (std::size_t index = 0; index < cluster.devices.size(); ++index) {
        const Device& device = cluster.devices[index];
        model::Cost batch = cost;
        if (device.streams > 0) {
          // Their rows are multiplied as well; the weights are read once.
          batch.flops += device.streams * (cost.flops - attention_flops);
          batch.bytes += device.stream_bytes / shape.layer_count;
        }
        seconds[index] += weight * (device.layer_overhead_s + roofline(device, batch, attention_flops));
      }
    }
    kv_read_[layer + 1] = kv_read_[layer] + kv_read;
    for (std::size_t index = 0; index < seconds.size(); ++index) {
      double* sums = &sums_[index * stride_];
      sums[layer + 1] = sums[layer] + seconds[index];
    }
  }
  for (const Device& device : cluster.devices) {
    head_.push_back(steps_ * roofline(device, model::head_cost(shape, 1 + device.streams), 0));
    pass_overhead_.push_back(device.pass_overhead_s);
  }
}

MemoryTable::MemoryTable(const model::ModelShape& shape, const Request& request,
                         std::span<const std::uint32_t> chunk_sizes)
    : weights_(shape.layer_count + 1, 0),
      embedding_bytes_(static_cast<double>(shape.embedding_bytes)),
      head_bytes_(static_cast<double>(shape.head_weight_bytes)),
      // The residual stream, its norm, and the widest intermediate, in F32.
      activation_bytes_per_token_(4.0 * (4.0 * shape.embedding_width + 2.0 * shape.feed_forward_width)),
      logits_bytes_(4.0 * shape.vocabulary_size) {
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
    weights_[layer + 1] = weights_[layer] + static_cast<double>(shape.layers[layer].weight_bytes);
  }
  for (const std::uint32_t tokens : chunk_sizes) {
    const model::KvDemand demand{.context_tokens = request.context_tokens(), .max_chunk_tokens = tokens};
    ChunkSize& size = sizes_.emplace_back(tokens, std::vector<double>(shape.layer_count + 1, 0));
    for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
      size.kept[layer + 1] = size.kept[layer] + state_bytes(shape, layer) +
                             model::kv_bytes(shape, {layer, layer + 1}, demand, request.kv_bytes_per_value);
    }
  }
}

double MemoryTable::stage_bytes(const Device& device, LayerRange layers, std::uint32_t chunk_tokens) const {
  const auto size = std::ranges::find(sizes_, chunk_tokens, &ChunkSize::tokens);
  assert(size != sizes_.end());
  return bytes_in(*size, device, layers);
}

double MemoryTable::least_stage_bytes(const Device& device, LayerRange layers) const {
  double least = std::numeric_limits<double>::infinity();
  for (const ChunkSize& size : sizes_) least = std::min(least, bytes_in(size, device, layers));
  return least;
}

double MemoryTable::bytes_in(const ChunkSize& size, const Device& device, LayerRange layers) const {
  double weights = weights_[layers.end] - weights_[layers.begin];
  double rest = size.kept[layers.end] - size.kept[layers.begin] + activation_bytes_per_token_ * size.tokens;
  if (layers.begin == 0) rest += embedding_bytes_;
  if (layers.end + 1 == weights_.size()) {
    weights += head_bytes_;
    rest += logits_bytes_;
  }
  return weights * device.weight_copies + rest;
}

}  // namespace baton::plan
