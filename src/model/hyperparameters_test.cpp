#include "model/hyperparameters.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "model/gguf_writer.h"

namespace baton::model {
namespace {

// A tiny llama file in memory, to be told lies about.
struct FakeModel {
  std::string architecture = "llama";
  std::map<std::string, std::uint32_t> numbers = {{"block_count", 2},          {"embedding_length", 64},
                                                  {"feed_forward_length", 96}, {"context_length", 128},
                                                  {"attention.head_count", 4}, {"attention.head_count_kv", 2}};
  std::map<std::string, float> reals = {{"attention.layer_norm_rms_epsilon", 1e-5F}};
  std::map<std::string, std::string> texts;
  std::map<std::string, std::pair<TensorType, std::vector<std::uint64_t>>> tensors;
  std::function<void(GgufWriter&)> extra = [](GgufWriter&) {};
  float fill = 1.0F;  // every F32 tensor's elements

  FakeModel() {
    add("token_embd.weight", {64, 32});
    add("output_norm.weight", {64});
    for (const std::string layer : {"blk.0.", "blk.1."}) {
      add(layer + "attn_norm.weight", {64});
      add(layer + "attn_q.weight", {64, 64});
      add(layer + "attn_k.weight", {64, 32});
      add(layer + "attn_v.weight", {64, 32});
      add(layer + "attn_output.weight", {64, 64});
      add(layer + "ffn_norm.weight", {64});
      add(layer + "ffn_gate.weight", {64, 96});
      add(layer + "ffn_up.weight", {64, 96});
      add(layer + "ffn_down.weight", {96, 64});
    }
  }
  void add(const std::string& name, std::vector<std::uint64_t> shape) {
    tensors[name] = {TensorType::kF32, std::move(shape)};
  }

  Bytes bytes() const {
    GgufWriter writer;
    writer.set<std::string_view>("general.architecture", architecture);
    for (const auto& [key, value] : numbers) writer.set<std::uint32_t>(architecture + "." + key, value);
    for (const auto& [key, value] : reals) writer.set<float>(architecture + "." + key, value);
    for (const auto& [key, value] : texts) writer.set<std::string_view>(architecture + "." + key, value);
    extra(writer);
    for (const auto& [name, tensor] : tensors) EXPECT_TRUE(writer.add_tensor(name, tensor.first, tensor.second));
    Bytes result = writer.header();
    const std::size_t begin = result.size();
    result.resize(begin + writer.data_bytes());
    for (std::size_t at = begin; at + sizeof(fill) <= result.size(); at += sizeof(fill)) {
      std::memcpy(result.data() + at, &fill, sizeof(fill));
    }
    return result;
  }
};

// What is read from the model, and what it points into.
struct Read {
  Bytes bytes;
  std::optional<GgufFile> file;
  Result<Hyperparameters> result = fail(ErrorCode::kInternal, "not read");
};

Read read(const FakeModel& model) {
  Read read;
  read.bytes = model.bytes();
  auto file = GgufFile::parse(read.bytes, "fake.gguf");
  EXPECT_TRUE(file.has_value()) << file.error().to_string();
  if (!file) return read;
  read.file = std::move(*file);
  const auto description = find_description(model.architecture);
  EXPECT_TRUE(description.has_value());
  read.result = read_hyperparameters(*read.file, **description);
  return read;
}

void expect_error(const FakeModel& model, ErrorCode code, const std::string& mentioned) {
  const Read outcome = read(model);
  ASSERT_FALSE(outcome.result.has_value()) << mentioned;
  EXPECT_EQ(outcome.result.error().code, code) << outcome.result.error().to_string();
  EXPECT_NE(outcome.result.error().message.find(mentioned), std::string::npos) << outcome.result.error().to_string();
  EXPECT_EQ(outcome.result.error().context, "fake.gguf");
}

TEST(Hyperparameters, OfASoundFileAreRead) {
  const Read outcome = read(FakeModel());
  ASSERT_TRUE(outcome.result.has_value()) << outcome.result.error().to_string();
  const Hyperparameters& found = *outcome.result;
  EXPECT_EQ(found.shape.layer_count, 2U);
  EXPECT_EQ(found.shape.key_head_width, 16U);
  EXPECT_EQ(found.shape.k_width(), 32U);
  EXPECT_EQ(found.shape.vocabulary_size, 32U);
  EXPECT_EQ(found.rope_width, 16U);
  EXPECT_FLOAT_EQ(found.layers[1].rope.base, 10000.0F);
  EXPECT_FLOAT_EQ(found.attention_scale, 0.25F);
  EXPECT_EQ(found.shape.layers[0].weight_count, 64U + 64 * 64 + 64 * 32 * 2 + 64 * 64 + 64 + 64 * 96 * 3);
  EXPECT_EQ(found.output_matrix().name, "token_embd.weight") << "tied where there is no output.weight";
  EXPECT_EQ(found.layers[0].tensor(LayerTensor::kQueryBias), nullptr);
}

TEST(Hyperparameters, WithAnyNumberOutOfRangeAreRefusedByName) {
  for (const char* key : {"block_count", "embedding_length", "feed_forward_length", "context_length",
                          "attention.head_count", "attention.head_count_kv"}) {
    for (const std::uint32_t lie : {0U, std::numeric_limits<std::uint32_t>::max()}) {
      FakeModel model;
      model.numbers[key] = lie;
      expect_error(model, ErrorCode::kCorrupt, std::string("llama.") + key);
    }
  }
}

TEST(Hyperparameters, MissingAreNamed) {
  for (const char* key :
       {"block_count", "embedding_length", "feed_forward_length", "context_length", "attention.head_count"}) {
    FakeModel model;
    model.numbers.erase(key);
    expect_error(model, ErrorCode::kNotFound, std::string("llama.") + key);
  }
  FakeModel model;
  model.reals.clear();
  expect_error(model, ErrorCode::kNotFound, "llama.attention.layer_norm_rms_epsilon");
}

TEST(Hyperparameters, ThatContradictEachOtherAreRefused) {
  FakeModel uneven;
  uneven.numbers["attention.head_count_kv"] = 3;
  expect_error(uneven, ErrorCode::kCorrupt, "3 KV heads");
  FakeModel odd;
  odd.numbers["attention.head_count"] = 5;
  odd.numbers["attention.head_count_kv"] = 5;
  expect_error(odd, ErrorCode::kCorrupt, "5 heads");
  FakeModel rope;
  rope.numbers["rope.dimension_count"] = 18;
  expect_error(rope, ErrorCode::kCorrupt, "llama.rope.dimension_count");
  rope.numbers["rope.dimension_count"] = 15;
  expect_error(rope, ErrorCode::kCorrupt, "llama.rope.dimension_count");
  FakeModel vocabulary;
  vocabulary.numbers["vocab_size"] = 31;
  expect_error(vocabulary, ErrorCode::kCorrupt, "llama.vocab_size");
}

TEST(Hyperparameters, WithNumbersThatAreNotFiniteAreRefused) {
  for (const float lie : {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    FakeModel epsilon;
    epsilon.reals["attention.layer_norm_rms_epsilon"] = lie;
    expect_error(epsilon, ErrorCode::kCorrupt, "layer_norm_rms_epsilon");
    FakeModel base;
    base.reals["rope.freq_base"] = lie;
    expect_error(base, ErrorCode::kCorrupt, "rope.freq_base");
  }
  FakeModel factor;
  factor.reals["rope.scaling.factor"] = -4;
  expect_error(factor, ErrorCode::kCorrupt, "rope.scaling.factor");
}

TEST(Hyperparameters, ThatAskForOtherArithmeticAreRefused) {
  FakeModel experts;
  experts.architecture = "qwen2";
  experts.numbers["expert_count"] = 8;
  expect_error(experts, ErrorCode::kUnsupported, "qwen2.expert_count");
  FakeModel stretched;
  stretched.texts["rope.scaling.type"] = "spiral";
  expect_error(stretched, ErrorCode::kUnsupported, "spiral");
  FakeModel scaled;
  scaled.add("blk.0.attn_q.scale", {1});
  EXPECT_TRUE(read(scaled).result.has_value()) << "a factor of 1 changes nothing";
  scaled.fill = 2.0F;
  expect_error(scaled, ErrorCode::kUnsupported, "blk.0.attn_q.scale");
}

TEST(Hyperparameters, StretchPositionsLinearly) {
  FakeModel model;
  model.texts["rope.scaling.type"] = "linear";
  model.reals["rope.scaling.factor"] = 8;
  const Read outcome = read(model);
  ASSERT_TRUE(outcome.result.has_value());
  EXPECT_FLOAT_EQ(outcome.result->layers[0].rope.scale, 0.125F);
}

TEST(Hyperparameters, StretchPositionsByYarn) {
  FakeModel model;
  model.texts["rope.scaling.type"] = "yarn";
  model.reals["rope.scaling.factor"] = 32;
  model.numbers["rope.scaling.original_context_length"] = 64;
  const Read plain = read(model);
  ASSERT_TRUE(plain.result.has_value()) << plain.result.error().to_string();
  const RopeParameters& rope = plain.result->layers[0].rope;
  EXPECT_FLOAT_EQ(rope.scale, 1.0F / 32);
  EXPECT_FLOAT_EQ(rope.extrapolation, 1);
  EXPECT_FLOAT_EQ(rope.magnitude, 1) << "ggml adds the paper's factor itself";
  EXPECT_EQ(plain.result->rope_original_context_tokens, 64U);
  // All dimensions weighed against the rotated ones: what ggml adds is taken off again.
  model.reals["rope.scaling.yarn_log_multiplier"] = 1;
  const Read weighed = read(model);
  ASSERT_TRUE(weighed.result.has_value());
  EXPECT_FLOAT_EQ(weighed.result->layers[0].rope.magnitude, 1.0F / (0.1F * std::log(32.0F) + 1.0F));
}

TEST(Hyperparameters, TakeTheRowsOfAFusedTensor) {
  FakeModel model;
  for (const char* part : {"q", "k", "v"}) model.tensors.erase(std::string("blk.1.attn_") + part + ".weight");
  model.add("blk.1.attn_qkv.weight", {64, 128});
  model.add("blk.1.attn_qkv.bias", {128});
  const Read outcome = read(model);
  ASSERT_TRUE(outcome.result.has_value()) << outcome.result.error().to_string();
  const TensorInfo& whole = *outcome.file->find_tensor("blk.1.attn_qkv.weight");
  const LayerHyperparameters& layer = outcome.result->layers[1];
  EXPECT_EQ(layer.tensor(LayerTensor::kQuery)->offset, whole.offset);
  EXPECT_EQ(layer.tensor(LayerTensor::kKey)->offset, whole.offset + 64 * 64 * sizeof(float));
  EXPECT_EQ(layer.tensor(LayerTensor::kValue)->shape[1], 32U);
  EXPECT_EQ(layer.tensor(LayerTensor::kValue)->offset + layer.tensor(LayerTensor::kValue)->bytes,
            whole.offset + whole.bytes);
  EXPECT_EQ(layer.tensor(LayerTensor::kKeyBias)->shape[0], 32U);
  EXPECT_EQ(outcome.result->shape.layers[1].weight_count, outcome.result->shape.layers[0].weight_count + 128);
  model.tensors["blk.1.attn_qkv.weight"].second[1] = 127;
  expect_error(model, ErrorCode::kCorrupt, "'blk.1.attn_qkv.weight' is [");
}

FakeModel sparse_llama() {
  FakeModel model;
  model.numbers["expert_count"] = 4;
  model.numbers["expert_used_count"] = 2;
  for (const char* part : {"gate", "up", "down"}) model.tensors.erase(std::string("blk.1.ffn_") + part + ".weight");
  model.add("blk.1.ffn_gate_inp.weight", {64, 4});
  model.add("blk.1.ffn_gate_exps.weight", {64, 48, 4});
  model.add("blk.1.ffn_up_exps.weight", {64, 48, 4});
  model.add("blk.1.ffn_down_exps.weight", {48, 64, 4});
  return model;
}

TEST(Hyperparameters, CountTheWeightsOfExpertsApart) {
  const Read outcome = read(sparse_llama());
  ASSERT_TRUE(outcome.result.has_value()) << outcome.result.error().to_string();
  const ModelShape& shape = outcome.result->shape;
  EXPECT_EQ(shape.expert_feed_forward_width, 48U);
  EXPECT_EQ(shape.layers[0].expert_count, 0U);
  EXPECT_EQ(shape.layers[1].expert_count, 4U);
  EXPECT_EQ(shape.layers[1].experts_per_token, 2U);
  EXPECT_EQ(shape.layers[1].expert_weight_count, 3U * 64 * 48 * 4);
  EXPECT_EQ(shape.layers[1].weight_count, 64U + 64 * 64 + 64 * 32 * 2 + 64 * 64 + 64 + 64 * 4 + 3 * 64 * 48 * 4);
}

TEST(Hyperparameters, OfExpertsMustAgree) {
  FakeModel many = sparse_llama();
  many.numbers["expert_used_count"] = 5;
  expect_error(many, ErrorCode::kCorrupt, "llama.expert_used_count");
  FakeModel gate = sparse_llama();
  gate.numbers["expert_gating_func"] = 4;
  expect_error(gate, ErrorCode::kCorrupt, "llama.expert_gating_func");
  FakeModel width = sparse_llama();
  width.numbers["expert_feed_forward_length"] = 96;
  expect_error(width, ErrorCode::kCorrupt, "llama.expert_feed_forward_length");
  FakeModel shared = sparse_llama();
  shared.numbers["expert_shared_count"] = 1;
  expect_error(shared, ErrorCode::kCorrupt, "blk.1.ffn_up_shexp.weight");
  shared.add("blk.1.ffn_up_shexp.weight", {64, 96});
  shared.add("blk.1.ffn_gate_shexp.weight", {64, 96});
  expect_error(shared, ErrorCode::kCorrupt, "blk.1.ffn_down_shexp.weight");
  FakeModel dense;
  dense.numbers["expert_count"] = 4;
  expect_error(dense, ErrorCode::kCorrupt, "llama.expert_count");
  for (const char* lost : {"blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"}) {
    FakeModel model = sparse_llama();
    model.tensors.erase(lost);
    expect_error(model, ErrorCode::kCorrupt, lost);
  }
}

TEST(Hyperparameters, LeaveDraftersOut) {
  FakeModel model;
  model.numbers["nextn_predict_layers"] = 1;
  const Read outcome = read(model);
  ASSERT_TRUE(outcome.result.has_value()) << outcome.result.error().to_string();
  EXPECT_EQ(outcome.result->shape.layer_count, 1U);
  model.numbers["nextn_predict_layers"] = 2;
  expect_error(model, ErrorCode::kCorrupt, "llama.nextn_predict_layers");
}

TEST(Hyperparameters, NeedEveryTensor) {
  const FakeModel whole;
  for (const auto& [name, tensor] : whole.tensors) {
    FakeModel model;
    model.tensors.erase(name);
    expect_error(model, ErrorCode::kCorrupt, "'" + name + "' is missing");
  }
}

TEST(Hyperparameters, NeedEveryTensorInItsExactShape) {
  const FakeModel whole;
  for (const auto& [name, tensor] : whole.tensors) {
    if (name == "token_embd.weight") continue;  // its rows decide the vocabulary
    for (std::size_t dimension = 0; dimension < tensor.second.size(); ++dimension) {
      FakeModel model;
      model.tensors[name].second[dimension] += 32;
      expect_error(model, ErrorCode::kCorrupt, "'" + name + "' is [");
    }
    FakeModel deeper;
    deeper.tensors[name].second.resize(4, 1);
    deeper.tensors[name].second[3] = 2;
    expect_error(deeper, ErrorCode::kCorrupt, "'" + name + "' is [");
  }
  FakeModel bias;
  bias.add("blk.1.attn_q.bias", {63});
  expect_error(bias, ErrorCode::kCorrupt, "blk.1.attn_q.bias");
}

TEST(Hyperparameters, NeedTensorsOfTypesThatCanBeComputedWith) {
  FakeModel matrix;
  matrix.tensors["blk.0.ffn_up.weight"].first = TensorType::kI32;
  expect_error(matrix, ErrorCode::kUnsupported, "blk.0.ffn_up.weight");
  FakeModel norm;
  norm.tensors["blk.0.ffn_norm.weight"].first = TensorType::kF16;
  expect_error(norm, ErrorCode::kUnsupported, "blk.0.ffn_norm.weight");
}

TEST(Hyperparameters, CheckRopeFactors) {
  FakeModel model;
  model.add("rope_freqs.weight", {8});
  EXPECT_TRUE(read(model).result.has_value());
  model.fill = 0;
  expect_error(model, ErrorCode::kCorrupt, "rope_freqs.weight");
}

FakeModel gemma() {
  FakeModel model;
  model.architecture = "gemma3";
  model.numbers["attention.sliding_window"] = 5;
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    for (const char* norm : {"attn_q_norm", "attn_k_norm"}) model.add(layer + norm + ".weight", {16});
    for (const char* norm : {"post_attention_norm", "post_ffw_norm"}) model.add(layer + norm + ".weight", {64});
  }
  return model;
}

TEST(Hyperparameters, SayWhichLayersSlide) {
  FakeModel by_period = gemma();
  by_period.numbers["attention.sliding_window_pattern"] = 2;
  by_period.reals["rope.freq_base"] = 1e6F;
  const Read period = read(by_period);
  ASSERT_TRUE(period.result.has_value()) << period.result.error().to_string();
  EXPECT_EQ(period.result->shape.layers[0].attention_window, 5U);
  EXPECT_EQ(period.result->shape.layers[1].attention_window, 0U);
  EXPECT_FLOAT_EQ(period.result->layers[0].rope.base, 1e4F);
  EXPECT_FLOAT_EQ(period.result->layers[1].rope.base, 1e6F);
  EXPECT_FLOAT_EQ(period.result->embedding_scale, 8.0F);

  FakeModel by_list = gemma();
  const std::array<std::uint32_t, 2> flags = {0, 1};
  by_list.extra = [&](GgufWriter& writer) {
    writer.set_array<std::uint32_t>("gemma3.attention.sliding_window_pattern", flags);
  };
  const Read list = read(by_list);
  ASSERT_TRUE(list.result.has_value()) << list.result.error().to_string();
  EXPECT_EQ(list.result->shape.layers[0].attention_window, 0U);
  EXPECT_EQ(list.result->shape.layers[1].attention_window, 5U);

  FakeModel too_long = gemma();
  const std::array<std::uint32_t, 3> flags_of_three = {0, 1, 0};
  too_long.extra = [&](GgufWriter& writer) {
    writer.set_array<std::uint32_t>("gemma3.attention.sliding_window_pattern", flags_of_three);
  };
  expect_error(too_long, ErrorCode::kCorrupt, "sliding_window_pattern");
}

// Latent attention without a narrow middle for queries: heads of 8 plain and 16 rotated elements, a latent of 32.
FakeModel latent_model() {
  FakeModel model;
  model.architecture = "deepseek2";
  model.numbers["attention.head_count_kv"] = 1;
  model.numbers["attention.kv_lora_rank"] = 32;
  model.numbers["attention.key_length"] = 48;
  model.numbers["attention.value_length"] = 32;
  model.numbers["attention.key_length_mla"] = 24;
  model.numbers["attention.value_length_mla"] = 12;
  model.numbers["rope.dimension_count"] = 16;
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    for (const char* name : {"attn_k.weight", "attn_v.weight"}) model.tensors.erase(layer + name);
    model.add(layer + "attn_q.weight", {64, 4 * 24});
    model.add(layer + "attn_kv_a_mqa.weight", {64, 48});
    model.add(layer + "attn_kv_a_norm.weight", {32});
    model.add(layer + "attn_k_b.weight", {8, 32, 4});
    model.add(layer + "attn_v_b.weight", {32, 12, 4});
    model.add(layer + "attn_output.weight", {4 * 12, 64});
  }
  return model;
}

TEST(Hyperparameters, OfLatentAttentionKeepOneRow) {
  const Read outcome = read(latent_model());
  ASSERT_TRUE(outcome.result.has_value()) << outcome.result.error().to_string();
  const LayerMemory& memory = outcome.result->shape.layers[1].memory;
  EXPECT_EQ(memory.k_width, 48U);
  EXPECT_TRUE(memory.keeps_latent_rows());
  EXPECT_FALSE(memory.keeps_state());
  EXPECT_FLOAT_EQ(outcome.result->attention_scale, 1.0F / std::sqrt(24.0F));

  FakeModel contradictory = latent_model();
  contradictory.numbers["attention.key_length"] = 40;
  expect_error(contradictory, ErrorCode::kCorrupt, "contradict");
  FakeModel narrow = latent_model();
  narrow.numbers["attention.q_lora_rank"] = 20;
  expect_error(narrow, ErrorCode::kCorrupt, "blk.0.attn_q_a.weight");
  FakeModel early = latent_model();
  early.tensors.erase("blk.0.attn_k_b.weight");
  early.add("blk.0.attn_kv_b.weight", {32, 4 * 20});
  expect_error(early, ErrorCode::kUnsupported, "attn_kv_b");
}

FakeModel grouped_model() {
  FakeModel model = latent_model();
  model.numbers["expert_count"] = 8;
  model.numbers["expert_used_count"] = 3;
  model.numbers["expert_group_count"] = 4;
  model.numbers["expert_group_used_count"] = 2;
  model.numbers["expert_gating_func"] = 2;
  for (const char* part : {"gate", "up", "down"}) model.tensors.erase(std::string("blk.1.ffn_") + part + ".weight");
  model.add("blk.1.ffn_gate_inp.weight", {64, 8});
  model.add("blk.1.ffn_gate_exps.weight", {64, 48, 8});
  model.add("blk.1.ffn_up_exps.weight", {64, 48, 8});
  model.add("blk.1.ffn_down_exps.weight", {48, 64, 8});
  return model;
}

TEST(Hyperparameters, OfExpertGroupsMustAgree) {
  const Read outcome = read(grouped_model());
  ASSERT_TRUE(outcome.result.has_value()) << outcome.result.error().to_string();
  EXPECT_EQ(outcome.result->expert_groups, 4U);
  EXPECT_EQ(outcome.result->expert_groups_used, 2U);
  FakeModel one = grouped_model();
  one.numbers["expert_group_count"] = 1;
  EXPECT_EQ(read(one).result->expert_groups, 1U);
  for (const std::uint32_t groups : {3U, 8U, 9U}) {
    FakeModel uneven = grouped_model();
    uneven.numbers["expert_group_count"] = groups;
    expect_error(uneven, ErrorCode::kCorrupt, "deepseek2.expert_group_count");
  }
  FakeModel many = grouped_model();
  many.numbers["expert_group_used_count"] = 5;
  expect_error(many, ErrorCode::kCorrupt, "deepseek2.expert_group_used_count");
  FakeModel few = grouped_model();
  few.numbers["expert_group_used_count"] = 1;
  expect_error(few, ErrorCode::kCorrupt, "deepseek2.expert_used_count");
  FakeModel elsewhere = sparse_llama();
  elsewhere.numbers["expert_group_count"] = 2;
  expect_error(elsewhere, ErrorCode::kUnsupported, "llama.expert_group_count");
}

TEST(Hyperparameters, PutYarnsMagnitudeOnTheScoresOfLatentAttention) {
  FakeModel model = latent_model();
  model.texts["rope.scaling.type"] = "yarn";
  model.reals["rope.scaling.factor"] = 40;
  model.reals["rope.scaling.yarn_log_multiplier"] = 0.0707F;
  const Read outcome = read(model);
  ASSERT_TRUE(outcome.result.has_value()) << outcome.result.error().to_string();
  // DeepSeek-V2's mscale: 0.1 x 0.707 x ln(40) + 1, once for the query and once for the key.
  const float mscale = 0.0707F * std::log(40.0F) + 1;
  EXPECT_NEAR(outcome.result->attention_scale, mscale * mscale / std::sqrt(24.0F), 1e-5);
  const float by_ggml = 0.1F * std::log(40.0F) + 1;
  EXPECT_NEAR(outcome.result->layers[0].rope.magnitude * by_ggml, 1, 1e-6) << "rotated elements keep their size";
}

// The first layer has no heads.
FakeModel convolved_model(std::vector<std::uint32_t> heads) {
  FakeModel model;
  model.architecture = "lfm2";
  model.numbers.erase("attention.head_count_kv");
  model.numbers["shortconv.l_cache"] = 3;
  model.extra = [heads = std::move(heads)](GgufWriter& writer) {
    writer.set_array<std::uint32_t>("lfm2.attention.head_count_kv", heads);
  };
  model.tensors.erase("output_norm.weight");
  model.add("token_embd_norm.weight", {64});
  for (const char* part : {"q", "k", "v", "output"}) {
    model.tensors.erase(std::string("blk.0.attn_") + part + ".weight");
  }
  for (const char* norm : {"attn_q_norm", "attn_k_norm"}) model.add(std::string("blk.1.") + norm + ".weight", {16});
  model.add("blk.0.shortconv.in_proj.weight", {64, 192});
  model.add("blk.0.shortconv.conv.weight", {3, 64});
  model.add("blk.0.shortconv.out_proj.weight", {64, 64});
  return model;
}

TEST(Hyperparameters, OfLayersWithoutHeadsKeepAState) {
  const Read outcome = read(convolved_model({0, 2}));
  ASSERT_TRUE(outcome.result.has_value()) << outcome.result.error().to_string();
  const auto& layers = outcome.result->shape.layers;
  EXPECT_EQ(layers[0].memory.state_width, 2U * 64);
  EXPECT_FALSE(layers[0].memory.keeps_rows());
  EXPECT_EQ(layers[1].memory.state_width, 0U);
  EXPECT_EQ(layers[1].memory.k_width, 32U);
  EXPECT_EQ(layers[1].memory.v_width, 32U);

  expect_error(convolved_model({0, 0}), ErrorCode::kCorrupt, "head_count_kv");
  expect_error(convolved_model({4, 2}), ErrorCode::kUnsupported, "differs from layer to layer");
  expect_error(convolved_model({2, 0}), ErrorCode::kCorrupt, "blk.0.attn_q.weight");
  FakeModel without = convolved_model({0, 2});
  without.numbers["shortconv.l_cache"] = 1;
  expect_error(without, ErrorCode::kCorrupt, "convolution");
}

}  // namespace
}  // namespace baton::model
