// A node that reads a prompt while it writes an answer.
#include <gtest/gtest.h>

#include "node/test_cluster.h"

namespace baton::node {
namespace {

using handoff::Determinism;

class Crowded : public test::Cluster {
 protected:
  static constexpr std::uint32_t kWholeChunk = 256;
  static constexpr std::uint32_t kPrompt = kWholeChunk + 40;

  // One layer of a whole chunk takes about 100 ms.
  Node& slow_node() {
    return add_node({.name = "local",
                     .context_tokens = 1024,
                     .max_chunk_tokens = kWholeChunk,
                     .emulation = engine::EmulatedDevice{.teraflops = 0.0008, .gigabytes_per_second = 1},
                     .kept_prefixes = KeptPrefixes::kUntilRoomIsNeeded});
  }
  RequestOptions prompt_of(std::uint32_t tokens, Determinism determinism) const {
    RequestOptions options = request(test::plan_text("local:0-6", "local:0-6"));
    options.prompt.resize(tokens, 377);
    options.chunk_tokens = kWholeChunk;
    options.max_new_tokens = 2;
    options.determinism = determinism;
    return options;
  }
  // Where the chunks of a prompt ended that was read beside a stream.
  std::vector<std::uint32_t> borders_beside_a_stream(Node& node, Determinism determinism) {
    RequestOptions streamed = prompt_of(test::kPromptTokens, determinism);
    streamed.prompt.front() = 399;  // nothing of it is kept for the other
    streamed.max_new_tokens = 400;
    Observer stream(*loop_);
    Observer reader(*loop_);
    std::vector<std::uint32_t> borders;
    reader.after_prefilled = [&](std::uint32_t done) { borders.push_back(done); };
    std::shared_ptr<Request> read;
    stream.after_token = [&](std::size_t count) {
      if (count == 2) read = model_of(node).submit(prompt_of(kPrompt, determinism), reader).value();
    };
    const auto written = model_of(node).submit(std::move(streamed), stream).value();
    wait_for(reader);
    EXPECT_FALSE(stream.report) << "it was to write all the time";
    written->cancel();
    wait_for(stream);
    return borders;
  }
  std::uint32_t kept_exactly(Node& node) {
    return (**finish(node, prompt_of(kPrompt, Determinism::kDeterministic))->report).cached_tokens;
  }
};

TEST_F(Crowded, CutsChunksThatWouldStopTheStream) {
  Node& node = slow_node();
  const std::vector<std::uint32_t> cut = {kWholeChunk / 2, kWholeChunk, kPrompt};
  EXPECT_EQ(borders_beside_a_stream(node, Determinism::kFast), cut);
  EXPECT_EQ(kept_exactly(node), 0U) << "other shapes have other bits";
}

TEST_F(Crowded, KeepsTheChunksOfWhoWantsTheSameBits) {
  Node& node = slow_node();
  const std::vector<std::uint32_t> whole = {kWholeChunk, kPrompt};
  EXPECT_EQ(borders_beside_a_stream(node, Determinism::kDeterministic), whole);
  EXPECT_EQ(kept_exactly(node), kWholeChunk);
}

}  // namespace
}  // namespace baton::node
