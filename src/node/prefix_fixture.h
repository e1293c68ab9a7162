// For tests of what keeps texts: a small engine, texts, and what runs over them give.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/test_model.h"
#include "node/prefix_cache.h"

namespace baton::node {

class PrefixFixture : public testing::Test {
 protected:
  static constexpr std::uint32_t kChunk = 32;
  static constexpr std::uint32_t kBlock = 256;  // of cells

  void make_engine(const std::string& model, std::uint32_t context_tokens = 4 * kBlock) {
    engine::EngineOptions options = engine::test::small_options();
    options.threads = 1;
    options.context_tokens = context_tokens;
    options.max_chunk_tokens = 128;
    options.sequences = 3;
    model_name_ = model;
    engine_ = engine::test::make_engine(engine::test::reference_model(model), options);
  }

  LayerRange all() const { return {0, engine_->shape().layer_count}; }
  PrefixNeed need(std::uint32_t tokens) const { return {.tokens = tokens, .layers = all(), .origin = {}}; }

  // Texts of another `seed` differ from their first token on.
  std::vector<Token> text(std::uint32_t count, std::uint32_t seed = 0) const {
    std::vector<Token> tokens = engine::test::some_tokens(*engine_, count + 1000);
    tokens.erase(tokens.begin(), tokens.begin() + seed);
    tokens.resize(count);
    return tokens;
  }
  std::vector<Token> joined(std::vector<Token> tokens, const std::vector<Token>& more) const {
    tokens.insert(tokens.end(), more.begin(), more.end());
    return tokens;
  }

  // A workspace in which the text was read, with room for `more` tokens.
  std::shared_ptr<Workspace> workspace_of(const std::vector<Token>& tokens, std::uint32_t more = 0) {
    auto workspace = std::make_shared<Workspace>(*engine_);
    EXPECT_TRUE(workspace->reserve(static_cast<std::uint32_t>(tokens.size()) + more));
    engine::test::run_chunks(*engine_, workspace->sequence(), tokens, kChunk);
    return workspace;
  }
  // Logits of the rest of the prompt, each chunk's, from where the workspace is.
  std::vector<float> go_on(Workspace& workspace, const std::vector<Token>& prompt) {
    const std::uint32_t from = workspace.held().tokens;
    return engine::test::run_chunks(*engine_, workspace.sequence(), std::span(prompt).subspan(from), kChunk, from);
  }
  // The same on an engine that keeps nothing.
  std::vector<float> expected(const std::vector<Token>& prompt, std::uint32_t from) {
    const auto fresh = engine::test::make_engine(engine::test::reference_model(model_name_), engine_->options());
    engine::Sequence sequence = engine::test::reserve(*fresh, static_cast<std::uint32_t>(prompt.size()));
    engine::test::run_chunks(*fresh, sequence, std::span(prompt).first(from), kChunk);
    return engine::test::run_chunks(*fresh, sequence, std::span(prompt).subspan(from), kChunk, from);
  }

  std::string model_name_;
  std::unique_ptr<engine::Engine> engine_;
};

}  // namespace baton::node
