#include "plan/prediction.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <queue>

#include "model/cost.h"
#include "plan/test_clusters.h"

namespace baton::plan {
namespace {

constexpr double kFrameBytes = 65536;

// A piece of a slice in an interface's queue. Hidden states go first, without breaking into a frame on the wire.
struct Frame {
  double arrives_s = 0;
  double bytes = 0;
  bool hidden = false;
  std::size_t chunk = 0;
  double passed_s = 0;
};

// An interface that serves whatever waits, frame after frame.
void pass(std::vector<Frame>& frames, double bytes_per_second) {
  std::ranges::stable_sort(frames, {}, &Frame::arrives_s);
  std::queue<std::size_t> urgent;
  std::queue<std::size_t> bulk;
  double now = 0;
  std::size_t next = 0;
  while (next < frames.size() || !urgent.empty() || !bulk.empty()) {
    if (urgent.empty() && bulk.empty()) now = std::max(now, frames[next].arrives_s);
    for (; next < frames.size() && frames[next].arrives_s <= now; ++next) {
      (frames[next].hidden ? urgent : bulk).push(next);
    }
    std::queue<std::size_t>& queue = urgent.empty() ? bulk : urgent;
    Frame& frame = frames[queue.front()];
    queue.pop();
    now += frame.bytes / bytes_per_second;
    frame.passed_s = now;
  }
}

void cut_into_frames(double bytes, Frame like, std::vector<Frame>& frames) {
  for (; bytes > 0; bytes -= kFrameBytes) {
    like.bytes = std::min(bytes, kFrameBytes);
    frames.push_back(like);
  }
}

// A second way to the same figures: every layer of every chunk by itself, its slice cut into frames, each of which
// waits in the sender's interface and then in the receiver's. Written apart from simulation.cpp and sharing none of its
// formulas but the cost of a layer.
class FrameByFrame {
 public:
  FrameByFrame(const Cluster& cluster, const model::ModelShape& shape, const Request& request,
               const Placement& placement)
      : cluster_(cluster), shape_(shape), request_(request), placement_(placement) {}

  double total_s() {
    const DeviceIndex decoder = placement_.decode.front().device;
    std::vector<Frame> into_decoder;
    std::vector<double> ready(chunks(), 0);
    double read_s = 0;
    double decoder_busy = 0;
    for (std::size_t index = 0; index < placement_.prefill.size(); ++index) {
      const DeviceStage& stage = placement_.prefill[index];
      if (stage.device == decoder && index > 0) ready = hidden_arrivals(into_decoder, decoder);
      std::vector<Frame> out = compute(index, ready, read_s);
      if (stage.device == decoder) {
        decoder_busy = busy_s_;
        continue;
      }
      const Node& node = cluster_.nodes[cluster_.devices[stage.device].node];
      pass(out, node.egress_bytes_per_second);
      std::vector<Frame> onwards;
      const bool next_is_decoder =
          index + 1 == placement_.prefill.size() || placement_.prefill[index + 1].device == decoder;
      for (Frame frame : out) {
        frame.arrives_s = frame.passed_s;
        (frame.hidden && !next_is_decoder ? onwards : into_decoder).push_back(frame);
      }
      if (!onwards.empty()) ready = hidden_arrivals(onwards, placement_.prefill[index + 1].device);
    }
    double begins = std::max(read_s, cluster_.devices[decoder].queue_s);
    if (!into_decoder.empty()) {
      const double latency = link_latency();
      pass(into_decoder, cluster_.nodes[cluster_.devices[decoder].node].ingress_bytes_per_second);
      for (const Frame& frame : into_decoder) begins = std::max(begins, frame.passed_s + latency);
      if (placement_.prefill.back().device != decoder) {
        begins = std::max(
            begins, read_s + latency + 4.0 * shape_.vocabulary_size / rate(placement_.prefill.back().device, decoder));
      }
    }
    return begins + decode(decoder, decoder_busy);
  }

 private:
  std::size_t chunks() const {
    return (request_.prompt_tokens + placement_.chunk_tokens - 1) / placement_.chunk_tokens;
  }
  model::TokenRun run_of(std::size_t chunk) const {
    const std::uint64_t first = chunk * placement_.chunk_tokens;
    return {first, std::min<std::uint64_t>(placement_.chunk_tokens, request_.prompt_tokens - first)};
  }
  double kv_bytes() const { return 2.0 * shape_.kv_head_count * (shape_.key_head_width + shape_.value_head_width); }
  double link_latency() const { return cluster_.links.front().latency_s; }
  double rate(DeviceIndex from, DeviceIndex to) const {
    return std::min(cluster_.nodes[cluster_.devices[from].node].egress_bytes_per_second,
                    cluster_.nodes[cluster_.devices[to].node].ingress_bytes_per_second);
  }
  static double cold(const Device& device, const model::Cost& cost) {
    return std::max(cost.flops / device.flops_per_second, cost.bytes / device.bytes_per_second);
  }
  static double really(const Device& device, double cold_s) {
    return cold_s + std::max(0.0, cold_s - device.warm_after_s) * (device.warm_slowdown - 1);
  }

  // How much longer reading takes where each piece of it is followed by a step of the answers that are written.
  double beside_answers(const Device& device) const {
    if (device.streams == 0) return 1;
    double step_s = device.pass_overhead_s + cold(device, model::head_cost(shape_, device.streams));
    double chunk_s = 0;
    const model::TokenRun run = run_of(0);
    const model::TokenRun first{0, 1};
    for (std::uint32_t layer = 0; layer < shape_.layer_count; ++layer) {
      model::Cost rows = model::layer_cost(shape_, layer, {&first, 1}, 0);
      rows.flops *= device.streams;
      rows.bytes += device.stream_bytes / shape_.layer_count;
      step_s += device.layer_overhead_s + cold(device, rows);
      chunk_s += device.layer_overhead_s + cold(device, model::layer_cost(shape_, layer, {&run, 1}, kv_bytes()));
    }
    return 1 + step_s / std::max(std::clamp(std::max(0.07 - step_s, 0.6 * step_s), 0.025, 0.05),
                                 chunk_s / shape_.layer_count);
  }

  // Frames that leave the stage; read_s becomes the end of its last chunk.
  std::vector<Frame> compute(std::size_t index, const std::vector<double>& ready, double& read_s) {
    const DeviceStage& stage = placement_.prefill[index];
    const Device& device = cluster_.devices[stage.device];
    const bool sends_kv = stage.device != placement_.decode.front().device;
    const bool ends_model = index + 1 == placement_.prefill.size();
    std::vector<Frame> frames;
    double now = device.queue_s;
    busy_s_ = 0;
    const double stretch = beside_answers(device);
    const auto work = [&](double alone_s) {
      const double cold_s = stretch * alone_s;
      now += really(device, busy_s_ + cold_s) - really(device, busy_s_);
      busy_s_ += cold_s;
    };
    for (std::size_t chunk = 0; chunk < chunks(); ++chunk) {
      now = std::max(now, ready[chunk]);
      const model::TokenRun run = run_of(chunk);
      work(device.pass_overhead_s);
      for (std::uint32_t layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
        work(device.layer_overhead_s + cold(device, model::layer_cost(shape_, layer, {&run, 1}, kv_bytes())));
        const double wire =
            kv_bytes() / 2 * codec_bytes_per_value(placement_.codecs[index]) * static_cast<double>(run.token_count) +
            4.0 * shape_.layers[layer].memory.state_width;
        if (sends_kv) cut_into_frames(wire, {.arrives_s = now, .chunk = chunk}, frames);
      }
      if (ends_model && chunk + 1 == chunks()) work(cold(device, model::head_cost(shape_, 1)));
      if (!ends_model) {
        cut_into_frames(4.0 * shape_.embedding_width * static_cast<double>(run.token_count),
                        {.arrives_s = now, .hidden = true, .chunk = chunk}, frames);
      }
    }
    read_s = now;
    return frames;
  }

  // When each chunk's hidden states have passed the receiver's interface.
  std::vector<double> hidden_arrivals(std::vector<Frame> frames, DeviceIndex to) {
    pass(frames, cluster_.nodes[cluster_.devices[to].node].ingress_bytes_per_second);
    std::vector<double> arrivals(chunks(), 0);
    for (const Frame& frame : frames) {
      if (frame.hidden) arrivals[frame.chunk] = std::max(arrivals[frame.chunk], frame.passed_s + link_latency());
    }
    return arrivals;
  }

  double decode(DeviceIndex decoder, double busy_s) {
    const Device& device = cluster_.devices[decoder];
    double cold_s = 0;
    for (int step = 0; step < static_cast<int>(request_.output_tokens) - 1; ++step) {
      const model::TokenRun run{request_.prompt_tokens + static_cast<std::uint64_t>(step), 1};
      cold_s += device.pass_overhead_s + cold(device, model::head_cost(shape_, 1 + device.streams));
      for (std::uint32_t layer = 0; layer < shape_.layer_count; ++layer) {
        model::Cost cost = model::layer_cost(shape_, layer, {&run, 1}, kv_bytes());
        if (device.streams > 0) {
          cost.flops += device.streams * (cost.flops - model::attention_flops(shape_, layer, {&run, 1}));
          cost.bytes += device.stream_bytes / shape_.layer_count;
        }
        cold_s += device.layer_overhead_s + cold(device, cost);
      }
    }
    return really(device, busy_s + cold_s) - really(device, busy_s);
  }

  const Cluster& cluster_;
  const model::ModelShape& shape_;
  const Request& request_;
  const Placement& placement_;
  double busy_s_ = 0;
};

// One device a node, interfaces that set the pace, no prefixes: what FrameByFrame plays.
Cluster plain_cluster(Draw& draw, const model::ModelShape& shape, std::uint32_t nodes) {
  Cluster cluster;
  do {
    cluster = draw.cluster(nodes, shape);
  } while (cluster.devices.size() != nodes || cluster.nodes.size() != nodes);
  const double latency_s = draw.real(0, 1e-3);
  cluster.links.clear();
  for (std::uint16_t from = 0; from < nodes; ++from) {
    for (std::uint16_t to = 0; to < nodes; ++to) {
      if (from != to) cluster.links.push_back({from, to, latency_s, 1e12});
    }
    cluster.nodes[from].codec_bytes_per_second = kUnlimited;
    cluster.devices[from].memory_bytes = 1e15;
    cluster.devices[from].prefix_tokens = 0;
  }
  return cluster;
}

void expect_frame_by_frame(std::uint32_t seed, std::size_t stages) {
  SCOPED_TRACE(seed);
  Draw draw(seed);
  model::ModelShape shape = draw.shape(16);
  while (shape.layer_count < 3) shape = draw.shape(16);
  const Cluster cluster = plain_cluster(draw, shape, 3);
  const std::uint32_t state_width = seed % 2 == 0 ? 0 : 100'000;
  for (model::LayerShape& layer : shape.layers) layer.memory.state_width = state_width;
  const Request request = {.prompt_tokens = draw.whole(1, 6000),
                           .output_tokens = static_cast<double>(draw.whole(1, 16))};
  const std::uint32_t layers = shape.layer_count;
  const std::uint32_t split = draw.whole(1, layers - 2);
  const std::uint32_t end = draw.whole(split + 1, layers - 1);
  Placement placement{.prefill = {}, .decode = {{2, {0, layers}}}, .codecs = {}, .chunk_tokens = 512};
  if (stages == 1) placement.prefill = {{0, {0, layers}}};
  if (stages == 2) placement.prefill = {{0, {0, split}}, {2, {split, layers}}};
  if (stages == 3) placement.prefill = {{0, {0, split}}, {1, {split, end}}, {2, {end, layers}}};
  placement.codecs.assign(stages, draw.chance(0.5) ? WireCodec::kF16 : WireCodec::kQ8_0);
  const Prediction prediction = predict(cluster, shape, request, placement).value();
  const double played = FrameByFrame(cluster, shape, request, placement).total_s();
  // Frames on the wire are not broken into, layers differ in length, and what the hidden states of two readers delay
  // in their interfaces may leave the decoder's idle for as long.
  const double slowest =
      std::min(std::ranges::min(cluster.nodes, {}, &Node::egress_bytes_per_second).egress_bytes_per_second,
               std::ranges::min(cluster.nodes, {}, &Node::ingress_bytes_per_second).ingress_bytes_per_second);
  const double tokens = std::min(512U, request.prompt_tokens);
  const double slice_s = (tokens * 2 * (shape.k_width() + shape.v_width()) + 4.0 * state_width) / slowest;
  const double hidden_s = stages == 3 ? 2 * 4 * tokens * shape.embedding_width / slowest : 0;
  EXPECT_NEAR(prediction.total_s, played, 0.01 * played + slice_s + hidden_s + 4 * kFrameBytes / slowest);
}

TEST(Prediction, AgreesWithAPlayThroughFrameByFrame) {
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    for (const std::size_t stages : {1, 2, 3}) expect_frame_by_frame(seed, stages);
  }
}

TEST(Prediction, PartsAddUpToTheTotal) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    Draw draw(seed);
    const model::ModelShape shape = draw.shape(8);
    const Cluster cluster = draw.cluster(3, shape);
    const Request request = draw.request(cluster);
    const LayerRange all = {0, shape.layer_count};
    const DeviceIndex last = static_cast<DeviceIndex>(cluster.devices.size() - 1);
    const auto prediction = predict(cluster, shape, request, {{{0, all}}, {{last, all}}, {WireCodec::kF16}, 512});
    if (!prediction) continue;
    EXPECT_NEAR(prediction->queue_s + prediction->prefill_s + prediction->exposed_s + prediction->decode_s,
                prediction->total_s, 1e-9);
    EXPECT_GE(prediction->exposed_s, -1e-12);
    EXPECT_GE(prediction->disturbance_s, 0);
  }
}

class TwoMachines : public testing::Test {
 protected:
  TwoMachines() {
    Draw draw(7);
    shape_ = draw.shape(1);
    shape_.layer_count = 8;
    shape_.layers.resize(8, shape_.layers[0]);
    for (std::uint16_t node = 0; node < 2; ++node) {
      cluster_.nodes.push_back({.name = "node" + std::to_string(node)});
      cluster_.devices.push_back({.name = "device" + std::to_string(node),
                                  .node = node,
                                  .flops_per_second = 1e12,
                                  .bytes_per_second = 100e9,
                                  .memory_bytes = 1e12});
    }
    connect_all(cluster_, 1.25e9, 1e-4);
  }
  Placement apart() const { return {{{0, {0, 8}}}, {{1, {0, 8}}}, {WireCodec::kF16}, 512}; }
  Prediction of(const Placement& placement) const { return predict(cluster_, shape_, request_, placement).value(); }

  model::ModelShape shape_;
  Cluster cluster_;
  Request request_ = {.prompt_tokens = 2048, .output_tokens = 8};
};

TEST_F(TwoMachines, WhatBothHoldIsNeitherComputedNorSent) {
  const Prediction cold = of(apart());
  cluster_.devices[0].prefix_tokens = 1024;
  EXPECT_EQ(of(apart()).prefix_tokens, 0u);
  cluster_.devices[1].prefix_tokens = 1536;
  const Prediction warm = of(apart());
  EXPECT_EQ(warm.prefix_tokens, 1024u);
  EXPECT_EQ(warm.chunks, 2u);
  EXPECT_NEAR(warm.transfer_s, cold.transfer_s / 2, 1e-9);
  cluster_.devices[0].prefix_tokens = cluster_.devices[1].prefix_tokens = 2048;
  EXPECT_EQ(of(apart()).prefix_tokens, 2047u);  // the last token's logits are needed all the same
}

TEST_F(TwoMachines, AQueueDelaysOnlyWhatWaitsForIt) {
  const Prediction free = of(apart());
  cluster_.devices[0].queue_s = 0.5;
  EXPECT_NEAR(of(apart()).total_s, free.total_s + 0.5, 1e-9);
  cluster_.devices[0].queue_s = 0;
  cluster_.devices[1].queue_s = free.prefill_s / 2;
  EXPECT_NEAR(of(apart()).total_s, free.total_s, 1e-9);
}

TEST_F(TwoMachines, StreamsThatWaitCountAgainstAPlan) {
  const Prediction alone = of(apart());
  EXPECT_EQ(alone.disturbance_s, 0);
  cluster_.devices[0].streams = 3;
  const Prediction disturbing = of(apart());
  EXPECT_NEAR(disturbing.disturbance_s, 3 * alone.prefill_s, 1e-9);
  EXPECT_GT(disturbing.prefill_s, alone.prefill_s) << "they write meanwhile";
  EXPECT_NEAR(disturbing.score_s(), disturbing.total_s + disturbing.disturbance_s, 1e-9);
}

TEST_F(TwoMachines, ADeviceThatThrottlesTakesLonger) {
  const Prediction cool = of(apart());
  cluster_.devices[0].warm_after_s = cool.prefill_s / 2;
  cluster_.devices[0].warm_slowdown = 2;
  EXPECT_NEAR(of(apart()).prefill_s, 1.5 * cool.prefill_s, 1e-9);
  cluster_.devices[0].pass_overhead_s = 0.01;
  EXPECT_NEAR(of(apart()).prefill_s, 1.5 * cool.prefill_s + 4 * 2 * 0.01, 1e-9);
}

TEST_F(TwoMachines, ALongerWireIsWaitedForAndAShorterCodecHelps) {
  connect_all(cluster_, 1e6, 0);
  const Prediction exact = of(apart());
  EXPECT_GT(exact.exposed_s, exact.prefill_s);
  Placement shorter = apart();
  shorter.codecs = {WireCodec::kQ8_0};
  EXPECT_NEAR(of(shorter).transfer_s, exact.transfer_s * 34 / 64, 1e-9);
  EXPECT_LT(of(shorter).total_s, exact.total_s);
  for (Node& node : cluster_.nodes) node.codec_bytes_per_second = 0.5e6;
  EXPECT_GT(of(shorter).total_s, exact.total_s) << "a codec that is slower than the wire";
}

TEST_F(TwoMachines, SaysWhatIsWrongWithAPlacement) {
  const auto code = [&](const Placement& placement) {
    return predict(cluster_, shape_, request_, placement).error().code;
  };
  EXPECT_EQ(code({{{0, {0, 7}}}, {{1, {0, 8}}}, {WireCodec::kF16}, 512}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({{{0, {1, 8}}}, {{1, {0, 8}}}, {WireCodec::kF16}, 512}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({{{2, {0, 8}}}, {{1, {0, 8}}}, {WireCodec::kF16}, 512}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({{{0, {0, 8}}}, {{1, {0, 8}}}, {}, 512}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({{{0, {0, 8}}}, {{1, {0, 8}}}, {WireCodec::kF16}, 0}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({{{0, {0, 8}}}, {{0, {0, 4}}, {1, {4, 8}}}, {WireCodec::kF16}, 512}), ErrorCode::kInvalidArgument);
  Cluster& cluster = cluster_;
  cluster.devices[1].memory_bytes = 1e3;
  EXPECT_EQ(code(apart()), ErrorCode::kNoCapacity);
  cluster.links.clear();
  EXPECT_EQ(code(apart()), ErrorCode::kUnavailable);
  cluster.devices[0].flops_per_second = std::nan("");
  EXPECT_EQ(code(apart()), ErrorCode::kInvalidArgument);
}

TEST_F(TwoMachines, AWindowsRowsDoNotGrowWithTheContext) {
  request_ = {.prompt_tokens = 65536, .output_tokens = 8};
  for (model::LayerShape& layer : shape_.layers) layer.attention_window = 0;
  const Placement alone = {{{0, {0, 8}}}, {{0, {0, 8}}}, {WireCodec::kF16}, 512};
  const double whole = of(alone).memory_bytes;
  for (std::uint32_t layer = 0; layer < 6; ++layer) shape_.layers[layer].attention_window = 512;
  // The context in whole blocks of 256, against a window and a chunk in whole blocks.
  const double spared = 6.0 * (65792 - 1280) * 2 * (shape_.k_width() + shape_.v_width());
  EXPECT_NEAR(of(alone).memory_bytes, whole - spared, 1);
}

TEST_F(TwoMachines, AStateIsKeptOnceAndTravelsOnceAChunkWhateverTheCodec) {
  for (const WireCodec codec : {WireCodec::kF16, WireCodec::kQ4_0}) {
    Placement placement = apart();
    placement.codecs = {codec};
    for (model::LayerShape& layer : shape_.layers) layer.memory.state_width = 0;
    const Prediction without = of(placement);
    for (model::LayerShape& layer : shape_.layers) layer.memory.state_width = 1000;
    const Prediction with = of(placement);
    EXPECT_NEAR(with.memory_bytes - without.memory_bytes, 2 * 8 * 4000.0, 1e-3) << "on both";
    EXPECT_NEAR(with.transfer_s - without.transfer_s, 4 * 8 * 4000.0 / 1.25e9, 1e-12);
  }
}

TEST_F(TwoMachines, RefusesMoreChunksThanItKeepsTheCostOf) {
  request_ = {.prompt_tokens = 16 * kMaxChunks, .chunk_tokens = {4096, 16}};
  EXPECT_TRUE(request_.validate());
  ++request_.prompt_tokens;
  const auto refused = request_.validate();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(refused.error().message.contains("in chunks of 16 makes 32769 chunks")) << refused.error().message;
  EXPECT_TRUE(refused.error().message.contains("use chunks of 17 tokens or more")) << refused.error().message;
  // A placement brings a chunk size of its own.
  request_.chunk_tokens = {4096};
  Placement placement = apart();
  placement.chunk_tokens = 16;
  const auto prediction = predict(cluster_, shape_, request_, placement);
  ASSERT_FALSE(prediction);
  EXPECT_EQ(prediction.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton::plan
