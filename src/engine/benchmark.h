// How fast an engine is, measured as llama-bench does it: one warm-up, then an empty cache for each run.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace baton::engine {

// Tokens per second over the repetitions.
struct Rate {
  double mean = 0;
  double deviation = 0;  // of a single run: the sample's standard deviation; 0 where there was one run
};

// Prefills `tokens` arbitrary tokens in chunks of options().max_chunk_tokens; the last token's logits are computed.
Result<Rate> prompt_tokens_per_second(Engine& engine, std::uint32_t tokens, std::uint32_t repetitions = 5);

// Generates `tokens` tokens one by one from an empty cache, logits computed for each.
Result<Rate> generated_tokens_per_second(Engine& engine, std::uint32_t tokens, std::uint32_t repetitions = 5);

}  // namespace baton::engine
