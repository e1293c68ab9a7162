// What a text's vector is made of: the rows behind the model's output norm (HeadResult::kNormed).
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/model.h"

namespace baton::engine {

enum class Pooling {
  kMean,  // of all rows
  kLast,  // the last token's
};

// As the file's key "pooling_type" says; where it is silent, kLast: the last token alone has seen the whole text.
// kUnsupported for a pooling that needs an encoder.
Result<Pooling> read_pooling(const Model& model);

// Length 1. A vector of nothing but zeros stays as it is.
void normalise(std::span<float> vector);

// Judges by a pair's last row how well a document answers a query: the head of Qwen3's rerankers, a matrix
// "cls.output.weight" of a row for each label, of which the first means yes, and a softmax over them.
class RankHead {
 public:
  // A row of weights and a bias for each label.
  RankHead(std::vector<float> weights, std::vector<float> biases)
      : weights_(std::move(weights)), biases_(std::move(biases)) {}
  // kUnsupported where the model is no reranker of that kind; kCorrupt where its head has the wrong shape.
  static Result<RankHead> read(const Model& model);

  // From 0 to 1. `row` has embedding_width values.
  float score(std::span<const float> row) const;

 private:
  std::vector<float> weights_;  // [label][embedding_width]
  std::vector<float> biases_;   // [label]
};

}  // namespace baton::engine
