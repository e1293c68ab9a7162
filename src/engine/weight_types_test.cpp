// Every type of weight, in plain and repacked memory, as matrices and as experts, against the same numbers in F32.
#include <ggml.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <format>
#include <vector>

#include "base/file.h"
#include "engine/test_model.h"
#include "model/synth.h"
#include "model/tensor_type.h"

namespace baton::engine {
namespace {

using model::TensorType;

// Searching for the codes of the smallest i-quants takes seconds for a thousand pieces.
constexpr std::uint32_t kPieces = 16;
// Enough for our own kernels, the experts' too, and no whole number of their tiles.
constexpr std::uint32_t kTypeTokens = 35;

EngineOptions one_thread() {
  EngineOptions options = test::small_options();
  options.threads = 1;
  return options;
}

std::filesystem::path scratch(std::string_view name) {
  return std::filesystem::temp_directory_path() / std::format("baton-type-{}-{}.gguf", ::getpid(), name);
}

// A random model of this type and shape; nothing where the type cannot have that shape.
std::shared_ptr<const Model> model_of_type(model::SynthOptions options, TensorType type) {
  options.type = type;
  options.threads = 2;
  options.pieces = kPieces;
  const auto path = scratch("typed");
  if (!model::synthesize(options, path)) return nullptr;
  auto opened = Model::open(path);
  std::filesystem::remove(path);
  EXPECT_TRUE(opened.has_value()) << opened.error().to_string();
  return opened.value_or(nullptr);
}

// The same model with every matrix as F32, of the very values that the typed one's blocks stand for.
std::shared_ptr<const Model> in_f32(const model::GgufFile& typed, model::SynthOptions options) {
  options.type = TensorType::kF32;
  options.threads = 2;
  options.pieces = kPieces;
  const auto path = scratch("f32");
  EXPECT_TRUE(model::synthesize(options, path).has_value());
  Bytes bytes;
  {
    const auto plain = model::GgufFile::open(path);
    if (!plain) return nullptr;
    bytes.assign(plain->bytes().begin(), plain->bytes().end());
    for (const model::TensorInfo& to : plain->tensors()) {
      const model::TensorInfo* from = typed.find_tensor(to.name);
      EXPECT_NE(from, nullptr) << to.name;
      if (from == nullptr) return nullptr;
      auto* out = reinterpret_cast<float*>(bytes.data() + to.offset);
      const ByteSpan in = typed.tensor_bytes(*from);
      if (from->type == TensorType::kF32) {
        std::memcpy(out, in.data(), in.size());
      } else {
        const auto* traits = ggml_get_type_traits(static_cast<ggml_type>(from->type));
        traits->to_float(in.data(), out, static_cast<std::int64_t>(from->elements()));
      }
    }
  }
  EXPECT_TRUE(write_file(path, bytes).has_value());
  auto opened = Model::open(path);
  std::filesystem::remove(path);
  EXPECT_TRUE(opened.has_value()) << opened.error().to_string();
  return opened.value_or(nullptr);
}

// How far apart the two may be. The weights are equal, so what differs is how a matmul's input is rounded to suit them.
// Blocks of B elements are scaled to 127 steps, and the largest element of a block is at most sqrt(B) times its
// root mean square, so a step is at most sqrt(B)/127 of that and rounding costs B/(12 * 127^2) of the energy; F16 and
// BF16 keep 11 and 8 bits, which costs at most a twelfth of the square of their last one. A layer has seven matmuls and
// the head one. Each passes an error on with at most the gain of attention's scores, whose standard deviation is 2
// (synth.cpp) and which are exponentiated: an energy of 2^2. The KV cache rounds to F16 in both, but not at the same
// places.
double most_difference(TensorType type) {
  const model::TensorTypeFacts facts = model::facts(type);
  const auto of_bits = [](double bits) { return std::exp2(-2 * (bits - 1)) / 12; };
  double rounding = of_bits(11);
  if (type == TensorType::kBF16) rounding += of_bits(8);
  if (facts.block_size > 1) rounding += std::max(32U, facts.block_size) / (12.0 * 127 * 127);
  constexpr double kMatmuls = 8;
  constexpr double kGain = 4;
  return kMatmuls * kGain * rounding;
}

void compute_with_types(const model::SynthOptions& shape, int types_at_least) {
  int computed = 0;
  for (const model::TensorTypeFacts& facts : model::all_tensor_types()) {
    if (facts.use != model::TensorUse::kWeight || facts.type == TensorType::kF32) continue;
    const auto model = model_of_type(shape, facts.type);
    if (model == nullptr) continue;
    const auto engine = test::make_engine(model, one_thread());
    const auto exact = test::make_engine(in_f32(model->file(), shape), one_thread());
    ASSERT_NE(engine, nullptr) << facts.name;
    ASSERT_NE(exact, nullptr) << facts.name;
    const auto tokens = test::some_tokens(*engine, kTypeTokens);
    Sequence reference = test::reserve(*exact, kTypeTokens);
    const auto expected = test::run_chunks(*exact, reference, tokens, kTypeTokens);
    for (const std::uint32_t chunk : {kTypeTokens, 1U}) {
      Sequence sequence = test::reserve(*engine, kTypeTokens);
      const double difference = test::nmse(test::run_chunks(*engine, sequence, tokens, chunk), expected);
      EXPECT_LT(difference, most_difference(facts.type)) << facts.name << " in chunks of " << chunk;
      // Where it is exactly 0 the two files would hold the same thing; but floats can be multiplied without rounding.
      EXPECT_TRUE(difference > 0 || facts.block_size == 1) << facts.name;
    }
    ++computed;
  }
  EXPECT_GE(computed, types_at_least);
}

TEST(WeightTypes, ComputeWhatTheirBlocksStandFor) {
  compute_with_types({.embd = 1024, .layers = 1, .heads = 16, .kv_heads = 4, .ff = 1280, .vocab = 323}, 24);
}

TEST(WeightTypes, OfSmallBlocksComputeInOddShapes) {
  compute_with_types({.embd = 160, .layers = 1, .heads = 5, .kv_heads = 5, .ff = 224, .vocab = 323}, 8);
}

// All experts are chosen, so that no rounding can turn a choice round.
TEST(WeightTypes, ComputeAsExperts) {
  compute_with_types({.embd = 256,
                      .layers = 1,
                      .heads = 4,
                      .kv_heads = 2,
                      .ff = 256,
                      .experts = 3,
                      .experts_per_token = 3,
                      .vocab = 323},
                     24);
}

TEST(WeightTypes, OfExpertsAreRepackedWhereMatricesAre) {
  const model::SynthOptions dense = {.embd = 256, .layers = 1, .heads = 4, .kv_heads = 2, .ff = 256, .vocab = 323};
  model::SynthOptions sparse = dense;
  sparse.experts = 3;
  sparse.experts_per_token = 2;
  const auto repacked = [](const model::SynthOptions& shape) {
    const auto engine = test::make_engine(model_of_type(shape, TensorType::kQ4_0), one_thread());
    return engine->stats().repacked_weight_bytes;
  };
  const std::uint64_t without = repacked(dense);
  if (without == 0) GTEST_SKIP() << "this CPU has no repacked matmul for q4_0";
  // Two more networks of three 256 x 256 matrices, 18 bytes for 32 weights.
  EXPECT_GE(repacked(sparse), without + std::uint64_t{2 * 3 * 256} * 256 / 32 * 18);
}

}  // namespace
}  // namespace baton::engine
