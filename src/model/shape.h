// A model in plain numbers, for whoever plans with it, reserves memory for it or prices work on it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace baton::model {

// What a layer remembers of a text. Every layer has rows for each token, or a state for all of them, or both.
struct LayerMemory {
  std::uint32_t k_width = 0;  // elements of one token's K, or of its latent row where there is no V; 0: no rows
  std::uint32_t v_width = 0;  // elements of its V; 0 where V is a part of the latent row, or there are no rows
  // Elements, in F32, of a state that stands for all tokens so far and does not grow with them; 0: none.
  std::uint32_t state_width = 0;

  bool keeps_rows() const { return k_width != 0; }
  bool keeps_latent_rows() const { return k_width != 0 && v_width == 0; }
  bool keeps_state() const { return state_width != 0; }
};

// One layer's numbers that differ from layer to layer.
struct LayerShape {
  LayerMemory memory;
  std::uint64_t weight_count = 0;      // parameters, those of all experts included
  std::uint64_t weight_bytes = 0;      // as they lie in the file
  std::uint32_t attention_window = 0;  // tokens a position can see, itself included; 0: all before it
  // Where tokens are routed to some of many experts; 0 in a dense layer.
  std::uint32_t expert_count = 0;
  std::uint32_t experts_per_token = 0;
  std::uint64_t expert_weight_count = 0;  // of weight_count, what is divided among the experts
  std::uint64_t expert_weight_bytes = 0;
};

struct ModelShape {
  std::string architecture;
  std::uint32_t layer_count = 0;
  std::uint32_t embedding_width = 0;
  std::uint32_t feed_forward_width = 0;  // of dense layers; 0 where there are none
  std::uint32_t expert_count = 0;        // of sparse layers; 0 where there are none
  std::uint32_t experts_per_token = 0;
  std::uint32_t expert_feed_forward_width = 0;
  std::uint32_t shared_feed_forward_width = 0;  // of the expert that every token passes through; 0: there is none
  std::uint32_t head_count = 0;
  std::uint32_t kv_head_count = 0;
  std::uint32_t key_head_width = 0;
  std::uint32_t value_head_width = 0;
  std::uint32_t vocabulary_size = 0;
  std::uint32_t trained_context_tokens = 0;
  std::vector<LayerShape> layers;       // layer_count of them
  std::uint64_t head_weight_count = 0;  // output norm and output matrix
  std::uint64_t head_weight_bytes = 0;
  std::uint64_t embedding_bytes = 0;  // the token embedding table (also counted in the head where the two are tied)

  // Elements of one token's K, and of its V, where a layer has heads of its own for them.
  std::uint32_t k_width() const { return kv_head_count * key_head_width; }
  std::uint32_t v_width() const { return kv_head_count * value_head_width; }
};

}  // namespace baton::model
