// For tests: the synthetic model of node/test_cluster.h in a pool of its own, as the server's workers get it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "node/model_pool.h"
#include "node/test_cluster.h"

namespace baton::serve::test {

class PooledModelTest : public node::test::Cluster {
 protected:
  enum class Weights { kLoaded, kNotLoaded };

  // Once a test. It goes after what the test itself holds, and before its node.
  node::PooledModel& pooled_model(Weights weights, std::optional<engine::EmulatedDevice> emulation = {}) {
    const auto identity = net::Identity::load_or_create(folder_->path() / "key-A").value();
    node::Node& node = *nodes_.emplace_back(node::Node::create(*loop_, identity, {}).value());
    node::PoolOptions options;
    options.engine.device = "CPU";
    options.engine.threads = 1;
    options.engine.context_tokens = 512;
    options.engine.max_chunk_tokens = node::test::kChunk;
    options.engine.emulation = emulation;
    options.measure = [](engine::Executor&, const Sha256&) { return node::DeviceRates(); };
    const auto device = std::make_shared<engine::DeviceThread>();
    pool_.emplace(*loop_, node, device, options, std::vector<node::KnownModel>{{.name = "model", .file = model_}});
    node::PooledModel& model = *pool_->models().front();
    if (weights == Weights::kLoaded) {
      EXPECT_TRUE(pool_->take_over(model, node::ModelPool::load(model_, options, device).value()));
    }
    return model;
  }
  void TearDown() override {
    pool_.reset();
    Cluster::TearDown();
  }
  // Runs the loop until somebody stops it, or for as long as no test takes.
  void run_loop() {
    net::Timer deadline(*loop_);
    deadline.start(Duration(node::test::kDeadline), [&] { loop_->stop(); });
    loop_->run();
  }

 private:
  std::optional<node::ModelPool> pool_;
};

}  // namespace baton::serve::test
