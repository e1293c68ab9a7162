// Builds the ggml graph of one layer, of the embedding and of the output head, from a description's choices.
// Only the engine room includes this header: it shows ggml's types. Tensors that go in already have their memory; what
// the functions make lies in `context` without memory, for a graph allocator. Nothing here computes or fails: sizes
// and types were checked by read_hyperparameters and by the engine's batch check.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "model/description.h"
#include "model/hyperparameters.h"

struct ggml_cgraph;
struct ggml_context;
struct ggml_tensor;

namespace baton::model {

// The layer's tensors on the device; nullptr for optional ones that the model has not.
struct LayerWeights {
  std::array<ggml_tensor*, kLayerTensorCount> tensors{};
  ggml_tensor* get(LayerTensor role) const { return tensors[static_cast<std::size_t>(role)]; }
};

// One sequence's share of a pass: rows of the batch and the cells they look at.
struct AttentionSpan {
  std::uint32_t first_row = 0;
  std::uint32_t row_count = 0;
  std::uint64_t first_cell = 0;  // of the keys and values looked at
  std::uint32_t kv_count = 0;    // how many, whole blocks
  ggml_tensor* mask = nullptr;   // F16 [kv_count, row_count], 0 or -infinity
  // What the mask says: row r sees the cells up to first_cell + first_row_cell + r, and `window` at most (0: all).
  std::uint32_t first_row_cell = 0;
  std::uint32_t window = 0;
};

// Another way than ggml's own to do a layer's heavy work, offered by the engine for its device and batch.
class Kernels {
 public:
  virtual ~Kernels() = default;
  // `input` (F32 [columns, rows]) times the layer's matrix: F32 [matrix rows, rows], or nullptr where ggml is to do it.
  virtual ggml_tensor* multiply(ggml_context* context, LayerTensor weight, ggml_tensor* input) = 0;
  // The same with the output matrix.
  virtual ggml_tensor* multiply_head(ggml_context* context, ggml_tensor* input) = 0;
  // `input` (F32 [columns, 1 or chosen, rows]) times those of the layer's experts that `chosen` (I32 [chosen, rows])
  // names: F32 [matrix rows, chosen, rows], or nullptr.
  virtual ggml_tensor* multiply_chosen(ggml_context* context, LayerTensor weight, ggml_tensor* input,
                                       ggml_tensor* chosen) = 0;
  // Attention of a span's rows, softmax(scale x query x key) x value as the span's mask allows: `query` F32 [head
  // width, heads, rows], `keys` and `values` [head width, cells, KV heads] of the cache. F32 [head width x heads,
  // rows], or nullptr.
  virtual ggml_tensor* attend(ggml_context* context, ggml_tensor* query, ggml_tensor* keys, ggml_tensor* values,
                              const AttentionSpan& span, float scale) = 0;
};

struct LayerInputs {
  ggml_tensor* hidden = nullptr;        // F32 [embedding, rows]: the residual stream, replaced in place
  ggml_tensor* positions = nullptr;     // I32 [rows]
  ggml_tensor* cells = nullptr;         // I64 [rows]: where each row's K and V go
  ggml_tensor* k_cache = nullptr;       // [kv heads x head width, cells]
  ggml_tensor* v_cache = nullptr;       // nullptr where K's rows are latent, and values a part of them
  ggml_tensor* rope_factors = nullptr;  // F32 [rope width / 2] or nullptr
  ggml_tensor* temperatures = nullptr;  // F32 [1, 1, rows]: factors on the queries, or nullptr
  std::span<const AttentionSpan> spans;
  std::span<ggml_tensor* const> states;  // of each span's sequence, F32 [state width]; where the layer keeps one
  ggml_tensor* only_state = nullptr;     // I32 [1], 0: a span's own state among those given for it
  Kernels* kernels = nullptr;            // or nullptr: ggml does everything
};

// What happens after what a layer keeps is written.
struct KeptRows {
  enum class Kind {
    kAll,   // the residual stream goes on with every row
    kSome,  // only with the rows listed: they are written to `destination`, and `hidden` is spent
    kNone,  // no row is wanted: the layer ends there
  };
  Kind kind = Kind::kAll;
  ggml_tensor* rows = nullptr;         // kSome: I32 [kept]
  ggml_tensor* destination = nullptr;  // kSome: F32 [embedding, kept]
};

// Adds one layer to `graph`.
void build_layer(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                 const Description& description, std::uint32_t layer, const LayerWeights& weights,
                 const LayerInputs& inputs, const KeptRows& kept);

// Looks tokens (I32 [rows]) up in `table` and writes them, scaled, to `hidden` (F32 [embedding, rows]).
void build_embedding(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                     ggml_tensor* table, ggml_tensor* tokens, ggml_tensor* hidden);

// The head's tensors on the device; the biases are nullptr where the model has none.
struct HeadWeights {
  ggml_tensor* norm = nullptr;
  ggml_tensor* norm_bias = nullptr;
  ggml_tensor* output = nullptr;
  ggml_tensor* output_bias = nullptr;
};

// The output norm on `rows` (F32 [embedding, n]), of the same shape.
ggml_tensor* build_output_norm(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                               const Description& description, const HeadWeights& weights, ggml_tensor* rows);

// The output norm and matrix on `rows` (F32 [embedding, n]). Returns the logits, F32 [vocabulary, n]. `kernels` may be
// nullptr.
ggml_tensor* build_head(ggml_context* context, ggml_cgraph* graph, const Hyperparameters& hyperparameters,
                        const Description& description, const HeadWeights& weights, ggml_tensor* rows,
                        Kernels* kernels);

// Upper bounds for a layer's graph with that many spans: tensors made, and nodes.
std::size_t layer_graph_size(const ModelShape& shape, std::size_t spans);

}  // namespace baton::model
