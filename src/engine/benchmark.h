// How fast an engine is, measured as llama-bench does it: one warm-up, then an empty cache for each run.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace baton::engine {

// Prefills `tokens` arbitrary tokens in chunks of options().max_chunk_tokens; the last token's logits are computed.
// Tokens per second: the mean over `repetitions` runs.
Result<double> prompt_tokens_per_second(Engine& engine, std::uint32_t tokens, std::uint32_t repetitions = 5);

// Generates `tokens` tokens one by one from an empty cache, logits computed for each.
Result<double> generated_tokens_per_second(Engine& engine, std::uint32_t tokens, std::uint32_t repetitions = 5);

}  // namespace baton::engine
