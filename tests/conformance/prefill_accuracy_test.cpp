// What prefill rounds, against the same model with every weight widened to F32 and computed by ggml in F32. The default
// must be at least as close to that as ggml's own path is for the type. Prints the relative RMS of the logits' errors,
// which docs/performance.md shows.
#include <ggml.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <format>
#include <iostream>
#include <vector>

#include "engine/test_model.h"
#include "model/gguf_writer.h"
#include "model/synth.h"

namespace baton::engine {
namespace {

namespace fs = std::filesystem;
using model::TensorType;

class PrefillAccuracyOf : public testing::TestWithParam<TensorType> {
 protected:
  PrefillAccuracyOf() : folder_(fs::temp_directory_path() / std::format("baton-accuracy-{}", getpid())) {
    fs::create_directories(folder_);
  }
  ~PrefillAccuracyOf() override { fs::remove_all(folder_); }

  static Result<void> copy_value(const model::GgufFile& from, std::string_view key, model::GgufWriter& to) {
    switch (from.type_of(key).value_or(model::ValueType::kArray)) {
      case model::ValueType::kString: to.set(key, TRY(from.get<std::string_view>(key))); break;
      case model::ValueType::kF32: to.set(key, TRY(from.get<float>(key))); break;
      case model::ValueType::kU32: to.set(key, TRY(from.get<std::uint32_t>(key))); break;
      default: break;  // The engine reads no other: they belong to the tokenizer.
    }
    return {};
  }

  // The same model, its weights widened to F32.
  static Result<void> widen(const fs::path& source, const fs::path& target) {
    const auto file = TRY(model::GgufFile::open(source));
    model::GgufWriter writer;
    for (const std::string_view key : file.keys()) {
      if (key.starts_with("general.architecture") || key.starts_with("llama.")) TRY(copy_value(file, key, writer));
    }
    for (const model::TensorInfo& info : file.tensors()) {
      TRY(writer.add_tensor(info.name, TensorType::kF32, std::span(info.shape).first(info.dimensions)));
    }
    TRY(writer.begin(target));
    for (const model::TensorInfo& info : file.tensors()) {
      const ByteSpan bytes = file.tensor_bytes(info);
      std::vector<float> values(info.elements());
      const auto to_float = ggml_get_type_traits(static_cast<ggml_type>(info.type))->to_float;
      if (to_float != nullptr) to_float(bytes.data(), values.data(), static_cast<std::int64_t>(values.size()));
      if (to_float == nullptr) std::memcpy(values.data(), bytes.data(), bytes.size());
      TRY(writer.write(std::as_bytes(std::span(values))));
    }
    return writer.finish();
  }

  static std::vector<float> logits(const fs::path& path, PrefillPack pack) {
    const auto model = Model::open(path);
    EXPECT_TRUE(model.has_value()) << model.error().to_string();
    if (!model) return {};
    EngineOptions options = test::small_options();
    options.prefill_pack = pack;
    const auto engine = test::make_engine(*model, options);
    if (engine == nullptr) return {};
    constexpr std::uint32_t kTokens = 384;
    constexpr std::uint32_t kChunk = 128;
    Sequence sequence = test::reserve(*engine, kTokens);
    return test::run_chunks(*engine, sequence, test::some_tokens(*engine, kTokens), kChunk);
  }

  const fs::path folder_;
};

INSTANTIATE_TEST_SUITE_P(Types, PrefillAccuracyOf,
                         testing::Values(TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ8_0,
                                         TensorType::kQ4_0, TensorType::kQ4_K, TensorType::kQ6_K),
                         [](const auto& test) { return std::string(model::facts(test.param).name); });

TEST_P(PrefillAccuracyOf, IsAtLeastThatOfGgmlUnlessACoarserModeIsAskedFor) {
  model::SynthOptions shape;
  shape.embd = 512;
  shape.layers = 4;
  shape.heads = 8;
  shape.kv_heads = 2;
  shape.ff = 1024;
  shape.vocab = 512;
  shape.type = GetParam();
  const fs::path typed = folder_ / "typed.gguf";
  const fs::path wide = folder_ / "wide.gguf";
  ASSERT_TRUE(model::synthesize(shape, typed).has_value());
  const auto widened = widen(typed, wide);
  ASSERT_TRUE(widened.has_value()) << widened.error().to_string();

  const auto exact = logits(wide, PrefillPack::kF32);
  const auto error_of = [&](PrefillPack pack) { return std::sqrt(test::nmse(logits(typed, pack), exact)); };
  const double ggml = error_of(PrefillPack::kOff);
  std::cout << std::format("{}: off {:.2e}", model::facts(GetParam()).name, ggml);
  for (const PrefillPack pack : {PrefillPack::kAuto, PrefillPack::kBf16, PrefillPack::kInt8, PrefillPack::kF32}) {
    const double error = error_of(pack);
    std::cout << std::format(", {} {:.2e}", prefill_pack_name(pack), error);
    EXPECT_LT(error, 0.05) << prefill_pack_name(pack);
    if (pack == PrefillPack::kAuto || pack == PrefillPack::kF32) {
      // Two roundings of one size differ by chance.
      EXPECT_LT(error, 1.1 * ggml + 1e-6) << prefill_pack_name(pack);
    }
  }
  std::cout << '\n';
  // What is held to be exact agrees with F32 by ggml, but for its attention, which rounds queries to F16.
  EXPECT_LT(std::sqrt(test::nmse(logits(wide, PrefillPack::kOff), exact)), 2e-3);
}

}  // namespace
}  // namespace baton::engine
