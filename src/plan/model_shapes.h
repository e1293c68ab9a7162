// Shapes of published models, so that one can plan for a file that is not at hand.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/shape.h"

namespace baton::plan {

struct PublishedModel {
  std::string_view name;  // without the type of its weights
  std::string_view architecture;
  std::uint32_t layers = 0;
  std::uint32_t embedding_width = 0;
  std::uint32_t feed_forward_width = 0;  // of an expert, where there are some
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_width = 0;
  std::uint32_t vocabulary = 0;
  std::uint32_t context = 0;
  bool tied = false;  // the embedding is the output matrix
  std::uint32_t experts = 0;
  std::uint32_t experts_per_token = 0;
  std::uint32_t window = 0;  // of every other layer, from the first on; 0: all see everything
  std::string_view source;
};

std::span<const PublishedModel> published_models();
// The types of weights a name may end in.
std::span<const std::string_view> published_types();

// Of a name such as "llama-3.1-8b-f16": matrices of that type, norms and biases left out. kNotFound with what there is.
Result<model::ModelShape> find_model_shape(std::string_view name);

}  // namespace baton::plan
