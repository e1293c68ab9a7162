// How fast an engine is, measured as llama-bench does it: one warm-up, then each run anew.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace baton::engine {

// Tokens per second over the repetitions.
struct Rate {
  double mean = 0;
  double deviation = 0;  // of a single run: the sample's standard deviation; 0 where there was one run
};

// What a run's first tokens find in the cache before them.
enum class CellContent {
  kRead,  // tokens that were read, untimed
  kAny,  // where the model's layers can begin anywhere, whatever lies in the cells: the time is the same. Else as kRead
};

struct BenchmarkRun {
  std::uint32_t tokens = 0;  // to read or to generate, of each sequence
  std::uint32_t depth = 0;   // tokens that a sequence holds before
  CellContent content = CellContent::kRead;
  std::uint32_t sequences = 1;  // that are decoded together; prompts are read one after the other
  std::uint32_t warm_ups = 1;   // untimed runs before
  std::uint32_t repetitions = 5;
};

// Reads arbitrary tokens in chunks of options().max_chunk_tokens; the last token's logits are computed. Tokens of all
// sequences per second. kInvalidArgument for a run of nothing, kNoCapacity where its
// sequences do not fit the cache.
Result<Rate> prompt_tokens_per_second(Engine& engine, const BenchmarkRun& run);

// Generates tokens one by one, of all sequences at a time; logits computed for each.
Result<Rate> generated_tokens_per_second(Engine& engine, const BenchmarkRun& run);

}  // namespace baton::engine
