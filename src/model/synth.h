// A random model that costs what a real one costs, for benches, tests and the demo.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string_view>

#include "base/result.h"
#include "model/tensor_type.h"

namespace baton::model {

// The shape of a Llama-architecture model. The default is the preset "1.1b".
struct SynthOptions {
  std::uint32_t embd = 2048;
  std::uint32_t layers = 16;
  std::uint32_t heads = 32;
  std::uint32_t kv_heads = 8;
  std::uint32_t ff = 8192;
  std::uint32_t experts = 0;  // in every layer, each of width ff; 0: a dense model
  std::uint32_t experts_per_token = 0;
  std::uint32_t vocab = 32000;
  std::uint32_t context = 131072;  // only the stated training length: it costs nothing
  float rope_base = 10000.0F;
  TensorType type = TensorType::kQ4_0;
  std::uint64_t seed = 1;
  std::uint32_t pieces = 4096;  // of which matrices are put together; fewer are quicker to quantise and less random
  unsigned threads = 0;         // 0: as many as the machine has
};

inline constexpr std::uint32_t kMinSynthVocab = 320;

// The shape of a preset, today only "1.1b"; nullopt for another name.
std::optional<SynthOptions> synth_preset(std::string_view name);

// Writes a GGUF file that baton and llama.cpp both load. All matrices, embedding and output included, have type
// `type`; norms are F32. The same options give the same bytes on every machine with the same ggml.
//
// Tokenizer: SentencePiece with all 256 byte tokens, so every text has tokens, and syllables as filler words. A chat
// template that names each message's role, so that it can be talked to; an answer ends only where it is cut off.
// Outputs are peaked: each token has two likely successors, and the layers' work on the context decides between them,
// so that greedy runs neither ignore the context nor stand often near a tie (synth.cpp tells how).
// Errors: kInvalidArgument for a shape that makes no sense or a type that cannot hold it, by the names of the options
// of 'baton synth'; kIo (full disk, ...), or kCancelled soon after `stop` asks for it, and nothing is left at `path`.
Result<void> synthesize(const SynthOptions& options, const std::filesystem::path& path, std::stop_token stop = {});

}  // namespace baton::model
