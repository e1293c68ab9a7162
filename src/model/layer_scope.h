// What the parts of a layer's graph have in common. Private to the files that build it.
#pragma once

#include <ggml.h>

#include "model/graph.h"

namespace baton::model {

struct LayerScope {
  ggml_context* context;
  ggml_cgraph* graph;
  const Hyperparameters& hyperparameters;
  const LayerWeights& weights;
  const LayerInputs& inputs;

  ggml_tensor* weight(LayerTensor role) const { return weights.get(role); }
  // The matrix of that role times x, by the fastest way there is.
  ggml_tensor* project(ggml_tensor* x, LayerTensor matrix) const;
};

// Both take the layer's normed input, [embedding, rows], add to the graph what brings each span's state up to date, and
// return what the output projection takes, [width, rows].
ggml_tensor* build_short_convolution(const LayerScope& scope, ggml_tensor* normed);
ggml_tensor* build_state_space(const LayerScope& scope, ggml_tensor* normed);

}  // namespace baton::model
