// Clusters, models and requests drawn at random, for the planner's tests.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "model/shape.h"
#include "plan/cluster.h"
#include "plan/prediction.h"

namespace baton::plan {

class Draw {
 public:
  explicit Draw(std::uint32_t seed) : random_(seed) {}

  std::uint32_t whole(std::uint32_t low, std::uint32_t high) {
    return std::uniform_int_distribution<std::uint32_t>(low, high)(random_);
  }
  double real(double low, double high) { return std::uniform_real_distribution<double>(low, high)(random_); }
  bool chance(double share) { return real(0, 1) < share; }

  model::ModelShape shape(std::uint32_t most_layers) {
    model::ModelShape shape;
    shape.layer_count = whole(1, most_layers);
    shape.embedding_width = 64 * whole(8, 64);
    shape.feed_forward_width = 3 * shape.embedding_width;
    shape.head_count = shape.embedding_width / 64;
    shape.kv_head_count = whole(1, 4);
    shape.key_head_width = shape.value_head_width = 64;
    shape.vocabulary_size = whole(1000, 100000);
    const bool sparse = chance(0.3);
    for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
      model::LayerShape numbers;
      numbers.memory = {.k_width = shape.k_width(), .v_width = shape.v_width()};
      numbers.weight_count = std::uint64_t{shape.embedding_width} * shape.embedding_width * whole(8, 14);
      numbers.weight_bytes = 2 * numbers.weight_count;
      if (chance(0.2)) numbers.attention_window = whole(64, 2048);
      if (sparse && chance(0.8)) {
        numbers.expert_count = 16;
        numbers.experts_per_token = 2;
        numbers.expert_weight_count = numbers.weight_count / 2;
        numbers.expert_weight_bytes = numbers.weight_bytes / 2;
      }
      shape.layers.push_back(numbers);
    }
    shape.head_weight_count = std::uint64_t{shape.embedding_width} * shape.vocabulary_size;
    shape.head_weight_bytes = shape.embedding_bytes = 2 * shape.head_weight_count;
    return shape;
  }

  // Devices between a weak and a strong one, some that are no roofline: overheads for each chunk, throttling when warm;
  // some in one node; links of 1 to 100 Gbit/s, of which few are missing; memory between too little and plenty.
  Cluster cluster(std::uint32_t most_nodes, const model::ModelShape& shape) {
    double model_bytes = static_cast<double>(shape.head_weight_bytes + shape.embedding_bytes);
    for (const auto& layer : shape.layers) model_bytes += static_cast<double>(layer.weight_bytes);
    Cluster cluster;
    const std::uint32_t nodes = whole(1, most_nodes);
    const bool alike = chance(0.2);
    std::uint32_t devices = 0;
    for (std::uint32_t node = 0; node < nodes; ++node) {
      Node numbers{.name = "node" + std::to_string(node)};
      numbers.egress_bytes_per_second = alike ? 1.25e9 : real(0.1e9, 12e9);
      numbers.ingress_bytes_per_second = alike ? 1.25e9 : real(0.1e9, 12e9);
      if (chance(0.3)) numbers.codec_bytes_per_second = alike ? 2e9 : real(0.5e9, 10e9);
      cluster.nodes.push_back(numbers);
      const std::uint32_t of_node = devices < most_nodes && node + 1 == nodes && chance(0.3) ? 2 : 1;
      for (std::uint32_t more = 0; more < of_node; ++more) {
        Device device{.name = "device" + std::to_string(devices++), .node = static_cast<std::uint16_t>(node)};
        device.flops_per_second = alike ? 50e12 : real(1e12, 100e12);
        device.bytes_per_second = alike ? 300e9 : real(50e9, 900e9);
        device.memory_bytes = alike ? 1e12 : model_bytes * real(0.25, 4);
        if (!alike && chance(0.4)) device.pass_overhead_s = real(0, 2e-3);
        if (!alike && chance(0.4)) device.layer_overhead_s = real(0, 200e-6);
        if (!alike && chance(0.3)) {
          device.warm_after_s = real(0, 0.2);
          device.warm_slowdown = real(1, 2);
        }
        if (!alike && chance(0.2)) device.weight_copies = 1.5;
        if (!alike && chance(0.3)) device.queue_s = real(0, 0.2);
        if (!alike && chance(0.3)) {
          device.streams = whole(1, 3);
          device.stream_bytes = real(0, 1e9);
        }
        if (!alike && chance(0.3)) device.prefix_tokens = whole(0, 3000);
        cluster.devices.push_back(device);
      }
    }
    for (std::uint16_t from = 0; from < nodes; ++from) {
      for (std::uint16_t to = 0; to < nodes; ++to) {
        if (from == to || (!alike && chance(0.05))) continue;
        cluster.links.push_back({from, to, alike ? 1e-4 : real(0, 2e-3), alike ? 1.25e9 : real(0.1e9, 12e9)});
      }
    }
    return cluster;
  }

  Request request(const Cluster& cluster) {
    Request request;
    request.prompt_tokens = whole(1, 4000);
    request.output_tokens = chance(0.2) ? 1 : whole(1, 200);
    if (chance(0.3))
      request.coordinator = static_cast<std::uint16_t>(whole(0, static_cast<std::uint32_t>(cluster.nodes.size()) - 1));
    if (chance(0.3)) request.codecs = {WireCodec::kF16};
    if (chance(0.1)) request.codecs = {WireCodec::kQ4_0, WireCodec::kQ8_0};
    request.chunk_tokens = {512, 1024};
    return request;
  }

 private:
  std::mt19937 random_;
};

}  // namespace baton::plan
