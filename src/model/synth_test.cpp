#include "model/synth.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <set>

#include "base/digest.h"
#include "base/file.h"
#include "base/layer_range.h"
#include "base/temporary_folder.h"
#include "model/block_pool.h"
#include "model/gguf.h"
#include "model/synth_vocabulary.h"
#include "model/vocabulary.h"

namespace baton::model {
namespace {

using Vector = std::vector<float>;

// The Llama architecture as the textbook has it, one token at a time, in plain loops: slow, and independent of the
// engine.
class ReferenceModel {
 public:
  explicit ReferenceModel(const GgufFile& file)
      : file_(file),
        embd_(number("llama.embedding_length")),
        layers_(number("llama.block_count")),
        heads_(number("llama.attention.head_count")),
        kv_heads_(number("llama.attention.head_count_kv")),
        head_(embd_ / heads_),
        embedding_(load("token_embd.weight")),
        output_norm_(load("output_norm.weight")),
        output_(load("output.weight")) {
    for (std::size_t i = 0; i < layers_; ++i) {
      const auto part = [&](const std::string& name) {
        return load("blk." + std::to_string(i) + "." + name + ".weight");
      };
      weights_.push_back({part("attn_norm"), part("attn_q"), part("attn_k"), part("attn_v"), part("attn_output"),
                          part("ffn_norm"), part("ffn_gate"), part("ffn_up"), part("ffn_down")});
    }
    keys_.resize(layers_);
    values_.resize(layers_);
  }

  // Computes the next position and returns the logits after it.
  Vector next(Token token) {
    const auto* row = embedding_.data() + static_cast<std::size_t>(token) * embd_;
    Vector x(row, row + embd_);
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      const Layer& weights = weights_[layer];
      add(x, attention(layer, normed(x, weights.attn_norm)));
      const Vector input = normed(x, weights.ffn_norm);
      Vector gate = multiply(weights.gate, input);
      const Vector up = multiply(weights.up, input);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      add(x, multiply(weights.down, gate));
    }
    ++position_;
    return multiply(output_, normed(x, output_norm_));
  }

 private:
  struct Layer {
    Vector attn_norm, q, k, v, output, ffn_norm, gate, up, down;
  };

  std::size_t number(std::string_view key) const { return file_.get<std::size_t>(key).value(); }

  Vector load(const std::string& name) const {
    const TensorInfo& info = *file_.find_tensor(name);
    Vector values(info.elements());
    const auto* data = file_.tensor_bytes(info).data();
    if (info.type == TensorType::kF32) {
      std::memcpy(values.data(), data, info.bytes);
    } else {
      ggml_get_type_traits(static_cast<ggml_type>(info.type))
          ->to_float(data, values.data(), static_cast<std::int64_t>(values.size()));
    }
    return values;
  }

  static void add(Vector& to, const Vector& from) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  }
  static Vector normed(const Vector& x, const Vector& weight) {
    const float squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0F);
    const float scale = 1 / std::sqrt(squares / static_cast<float>(x.size()) + 1e-5F);
    Vector result(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) result[i] = x[i] * scale * weight[i];
    return result;
  }
  static Vector multiply(const Vector& matrix, const Vector& x) {
    Vector result(matrix.size() / x.size());
    for (std::size_t row = 0; row < result.size(); ++row) {
      result[row] =
          std::transform_reduce(x.begin(), x.end(), matrix.begin() + static_cast<std::ptrdiff_t>(row * x.size()), 0.0F);
    }
    return result;
  }
  void rotate(Vector& x) const {
    for (std::size_t begin = 0; begin < x.size(); begin += head_) {
      for (std::size_t i = 0; i < head_; i += 2) {
        const float angle =
            static_cast<float>(position_) * std::pow(10'000.0F, -static_cast<float>(i) / static_cast<float>(head_));
        const float a = x[begin + i];
        const float b = x[begin + i + 1];
        x[begin + i] = a * std::cos(angle) - b * std::sin(angle);
        x[begin + i + 1] = a * std::sin(angle) + b * std::cos(angle);
      }
    }
  }
  Vector attention(std::size_t layer, const Vector& input) {
    const Layer& weights = weights_[layer];
    Vector q = multiply(weights.q, input);
    Vector k = multiply(weights.k, input);
    rotate(q);
    rotate(k);
    keys_[layer].push_back(std::move(k));
    values_[layer].push_back(multiply(weights.v, input));
    Vector mixed_values(embd_);
    for (std::size_t head = 0; head < heads_; ++head) {
      const std::size_t kv_begin = head / (heads_ / kv_heads_) * head_;
      const float* query = q.data() + head * head_;
      Vector scores;
      for (const Vector& key : keys_[layer]) {
        const float score =
            std::inner_product(query, query + head_, key.begin() + static_cast<std::ptrdiff_t>(kv_begin), 0.0F);
        scores.push_back(score / std::sqrt(static_cast<float>(head_)));
      }
      const float best = std::ranges::fold_left(scores, -1e30F, [](float a, float b) { return std::max(a, b); });
      float sum = 0;
      for (float& score : scores) sum += score = std::exp(score - best);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        for (std::size_t j = 0; j < head_; ++j)
          mixed_values[head * head_ + j] += scores[i] / sum * values_[layer][i][kv_begin + j];
      }
    }
    return multiply(weights.output, mixed_values);
  }

  const GgufFile& file_;
  std::size_t embd_, layers_, heads_, kv_heads_, head_;
  Vector embedding_, output_norm_, output_;
  std::vector<Layer> weights_;
  std::vector<std::vector<Vector>> keys_, values_;  // by layer and position
  std::size_t position_ = 0;
};

struct Continuation {
  std::vector<Token> tokens;
  Vector margins;  // best minus second-best logit at each step
};

Continuation run_greedily(const GgufFile& file, const std::vector<Token>& prompt, int count) {
  ReferenceModel model(file);
  Vector logits;
  for (const Token token : prompt) logits = model.next(token);
  Continuation run;
  for (int i = 0; i < count; ++i) {
    const auto best = std::ranges::max_element(logits);
    run.tokens.push_back(static_cast<Token>(best - logits.begin()));
    const float top = *best;
    *best = -1e9F;
    run.margins.push_back(top - *std::ranges::max_element(logits));
    logits = model.next(run.tokens.back());
  }
  return run;
}

std::vector<Token> random_prompt(std::uint64_t seed, std::uint32_t vocab, std::size_t length) {
  std::vector<Token> prompt{1};
  while (prompt.size() < length) prompt.push_back(static_cast<Token>(3 + mixed(seed, prompt.size()) % (vocab - 3)));
  return prompt;
}

class Synth : public testing::Test {
 protected:
  GgufFile make(const SynthOptions& options, const std::string& name = "model.gguf") {
    const auto result = synthesize(options, folder_.path() / name);
    EXPECT_TRUE(result) << (result ? "" : result.error().to_string());
    return GgufFile::open(folder_.path() / name).value();
  }

  const TemporaryFolder folder_ = TemporaryFolder::create("baton-test").value();
};

constexpr SynthOptions kSmall{.embd = 256,
                              .layers = 4,
                              .heads = 8,
                              .kv_heads = 2,
                              .ff = 512,
                              .vocab = 1000,
                              .type = TensorType::kF16,
                              .threads = 2};

TEST_F(Synth, StatesTheShapeItWasAskedFor) {
  const auto file = make(kSmall);
  EXPECT_EQ(file.get<std::string_view>("general.architecture").value(), "llama");
  EXPECT_EQ(file.get<int>("llama.block_count").value(), 4);
  EXPECT_EQ(file.get<int>("llama.attention.head_count_kv").value(), 2);
  EXPECT_EQ(file.get<int>("llama.rope.dimension_count").value(), 32);
  EXPECT_EQ(file.tensors().size(), 3u + 4u * 9u);
  EXPECT_EQ(file.find_tensor("blk.3.attn_k.weight")->shape, (std::array<std::uint64_t, 4>{256, 64, 1, 1}));
  EXPECT_EQ(file.find_tensor("blk.3.ffn_down.weight")->shape, (std::array<std::uint64_t, 4>{512, 256, 1, 1}));
  EXPECT_EQ(file.find_tensor("output.weight")->type, TensorType::kF16);
  EXPECT_EQ(file.find_tensor("output_norm.weight")->type, TensorType::kF32);
}

TEST_F(Synth, GivesTheSameBytesForTheSameSeedWithAnyNumberOfThreads) {
  const auto digest = [&](std::uint64_t seed, unsigned threads) {
    SynthOptions options = kSmall;
    options.type = TensorType::kQ4_0;
    options.seed = seed;
    options.threads = threads;
    return sha256(make(options).bytes());
  };
  EXPECT_EQ(digest(1, 1), digest(1, 3));
  EXPECT_NE(digest(1, 1), digest(2, 1));
}

// The pieces of the slow types take seconds: the sizes here are the smallest that two blocks of 256 allow.
TEST_F(Synth, WritesEveryTypeThatGgmlQuantisesTo) {
  for (const TensorTypeFacts& type : all_tensor_types()) {
    SynthOptions options{
        .embd = 512, .layers = 1, .heads = 4, .kv_heads = 2, .ff = 512, .vocab = 320, .type = type.type, .threads = 2};
    if (type.use == TensorUse::kStorage) {
      EXPECT_FALSE(synthesize(options, folder_.path() / "model.gguf")) << type.name;
      continue;
    }
    options.pieces = 64;
    const auto file = make(options);
    const TensorInfo& info = *file.find_tensor("blk.0.ffn_up.weight");
    ASSERT_EQ(info.type, type.type);
    if (type.type == TensorType::kF32) continue;
    // Each row has about the size asked for: 1/sqrt(embd) a weight. One and two bits keep it only roughly.
    Vector values(info.elements());
    ggml_get_type_traits(static_cast<ggml_type>(info.type))
        ->to_float(file.tensor_bytes(info).data(), values.data(), static_cast<std::int64_t>(values.size()));
    const double squares = std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
    const double rms = std::sqrt(squares / static_cast<double>(values.size()) * options.embd);
    EXPECT_GT(rms, 0.5) << type.name;
    EXPECT_LT(rms, 1.6) << type.name;
  }
}

TEST_F(Synth, IsPeakedVariedAndGeneratesNoSpecialTokens) {
  const auto file = make(kSmall);
  Vector margins;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const Continuation run = run_greedily(file, random_prompt(seed, kSmall.vocab, 40), 48);
    margins.insert(margins.end(), run.margins.begin(), run.margins.end());
    EXPECT_GE(std::set<Token>(run.tokens.begin(), run.tokens.end()).size(), 20u);
    EXPECT_GE(std::ranges::min(run.tokens), static_cast<Token>(kSpecialTokens));
  }
  std::ranges::sort(margins);
  EXPECT_GT(margins[margins.size() / 2], 2.0F);
  EXPECT_GT(margins[margins.size() / 20], 0.1F);
}

TEST_F(Synth, LetsEveryPartOfTheContextCount) {
  const auto file = make(kSmall);
  int changed = 0;
  constexpr int kTrials = 6;
  for (int trial = 0; trial < kTrials; ++trial) {
    auto prompt = random_prompt(static_cast<std::uint64_t>(trial), kSmall.vocab, 40);
    const Continuation before = run_greedily(file, prompt, 32);
    prompt[5 + static_cast<std::size_t>(trial) * 5] = 500;
    changed += run_greedily(file, prompt, 32).tokens != before.tokens ? 1 : 0;
  }
  EXPECT_GE(changed, kTrials - 2);
}

TEST_F(Synth, HasATokenForEveryByteAndEveryWordIsWrittenOnce) {
  const auto file = make(kSmall);
  const auto vocabulary = read_vocabulary(file).value();
  ASSERT_EQ(vocabulary.tokens.size(), kSmall.vocab);
  EXPECT_EQ(std::set<std::string>(vocabulary.tokens.begin(), vocabulary.tokens.end()).size(), kSmall.vocab);
  EXPECT_EQ(vocabulary.tokens[3], "<0x00>");
  EXPECT_EQ(vocabulary.tokens[258], "<0xFF>");
  EXPECT_TRUE(text::Vocabulary::create(vocabulary));
}

TEST_F(Synth, RefusesShapesThatMakeNoSense) {
  const auto refused = [&](auto change) {
    SynthOptions options = kSmall;
    change(options);
    const auto result = synthesize(options, folder_.path() / "refused.gguf");
    return !result && result.error().code == ErrorCode::kInvalidArgument &&
           !std::filesystem::exists(folder_.path() / "refused.gguf");
  };
  EXPECT_TRUE(refused([](SynthOptions& o) { o.heads = 7; }));
  EXPECT_TRUE(refused([](SynthOptions& o) { o.heads = 256; }));
  EXPECT_TRUE(refused([](SynthOptions& o) { o.heads = 0; }));
  EXPECT_TRUE(refused([](SynthOptions& o) { o.kv_heads = 3; }));
  EXPECT_TRUE(refused([](SynthOptions& o) { o.layers = 0; }));
  EXPECT_TRUE(refused([](SynthOptions& o) { o.vocab = 319; }));
  EXPECT_TRUE(refused([](SynthOptions& o) {
    o.ff = 500;
    o.type = TensorType::kQ4_0;
  }));
  EXPECT_TRUE(refused([](SynthOptions& o) { o.type = TensorType::kI32; }));
  EXPECT_TRUE(refused([](SynthOptions& o) { o.rope_base = 0; }));
}

TEST_F(Synth, ReportsWhereItCannotWrite) {
  const auto result = synthesize(kSmall, folder_.path() / "absent" / "model.gguf");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
}

TEST_F(Synth, KnowsItsPresets) {
  const auto preset = synth_preset("1.1b");
  ASSERT_TRUE(preset);
  EXPECT_EQ(preset->embd, 2048u);
  EXPECT_EQ(preset->layers, 16u);
  EXPECT_FALSE(synth_preset("70b"));
}

}  // namespace
}  // namespace baton::model
