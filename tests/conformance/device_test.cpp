// The engine on another device than the CPU: its logits against the reference files, and KV handed over to and from an
// engine on the CPU. BATON_TEST_DEVICE names the device, such as CUDA0. Without it this is Mesa's software driver under
// ggml's Vulkan backend, where both are installed: memory that the host cannot read, and none of the CPU's kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "golden_model.h"

namespace baton::engine {
namespace {

using test::Golden;

constexpr const char* kSoftwareDevice = "Vulkan0";
// The software driver compiles each shader that a model needs, for seconds, so it runs only these: full attention and
// windows, norms before and after, experts, sinks, biases, both kinds of RoPE.
constexpr const char* kSoftwareModels[] = {"llama-dense", "gemma3", "gpt-oss", "qwen3moe", "phi3-longrope"};
// GPUs multiply in F16 where the CPU accumulates in F32. Mesa's driver with F16 shaders differed by 13 tolerances.
constexpr double kNamedDeviceTolerances = 50;

struct TestDevice {
  std::string name;
  double tolerances = 1;  // of those that hold on the CPU
  bool is_software = true;
};

// What has to be set before the first look at the devices.
TestDevice choose_device() {
  if (const char* name = std::getenv("BATON_TEST_DEVICE"); name != nullptr && *name != '\0') {
    return {.name = name, .tolerances = kNamedDeviceTolerances, .is_software = false};
  }
  ::setenv("GGML_VK_VISIBLE_DEVICES", "0", 0);  // ggml passes over software drivers unless they are named
  ::setenv("GGML_VK_DISABLE_F16", "1", 0);      // F32 shaders compile in a third of the time
  return {.name = kSoftwareDevice};
}

const TestDevice& device() {
  static const TestDevice chosen = choose_device();
  return chosen;
}

// Why the device cannot be used here, or nothing.
std::string fault() {
  const auto devices = list_devices();
  const auto found = std::ranges::find(devices, device().name, &DeviceInfo::name);
  if (found == devices.end()) return "needs ggml's Vulkan backend and Mesa's software driver: see docs/install.md";
  // Such as "llvmpipe (LLVM 19.1.7, 256 bits)". Mesa's version is not to be seen, but that of its compiler is.
  constexpr std::string_view kCompiler = "llvmpipe (LLVM ";
  if (!device().is_software || !found->description.starts_with(kCompiler)) return {};
  const bool is_old = std::atoi(found->description.c_str() + kCompiler.size()) < 17;
  return is_old ? "Mesa's software driver is too old here: 22.3 frees buffers that it still uses" : "";
}

std::vector<std::pair<std::string, std::filesystem::path>> models() {
  std::vector<std::pair<std::string, std::filesystem::path>> chosen;
  for (const auto& [name, path] : test::golden_files()) {
    if (!device().is_software || std::ranges::contains(kSoftwareModels, name)) chosen.emplace_back(name, path);
  }
  return chosen;
}

class OnDevice : public testing::TestWithParam<std::pair<std::string, std::filesystem::path>> {
 protected:
  void SetUp() override {
    if (const std::string why = fault(); !why.empty()) {
      // Asked for by name it has to be there.
      ASSERT_TRUE(device().is_software) << "this machine has no device '" << device().name << "'";
      GTEST_SKIP() << why;
    }
    golden_ = test::load(GetParam().second);
  }

  std::unique_ptr<Engine> engine(const std::string& name) const {
    EngineOptions options = test::small_options();
    options.device = name;
    options.context_tokens = 512;
    return test::make_engine(golden_.model, options);
  }

  void expect_reference(std::span<const float> logits, std::size_t first_position) const {
    const auto expected =
        std::span(golden_.logits).subspan(first_position * golden_.model->shape().vocabulary_size, logits.size());
    EXPECT_LT(test::nmse(logits, expected), golden_.tolerance * device().tolerances);
  }

  void expect_reference_in_chunks_of(std::uint32_t chunk) const {
    const auto owned = engine(device().name);
    Sequence sequence = test::reserve(*owned, 256);
    expect_reference(test::run_chunks(*owned, sequence, golden_.prompt, chunk), 0);
  }

  // One engine reads the prompt but for its last tokens, which the other goes on with from the first one's KV.
  void expect_reference_across(const std::string& reader, const std::string& writer) const {
    constexpr std::uint32_t kLeftOver = 4;
    const auto first = engine(reader);
    const auto second = engine(writer);
    const auto count = static_cast<std::uint32_t>(golden_.prompt.size()) - kLeftOver;
    Sequence source = test::reserve(*first, 256);
    Sequence spacer = test::reserve(*second, 1);  // so that the cells differ
    Sequence target = test::reserve(*second, 256);
    test::run_chunks(*first, source, std::span(golden_.prompt).first(count), 16);
    for (std::uint32_t layer = 0; layer < first->shape().layer_count; ++layer) {
      const model::LayerMemory& memory = first->shape().layers[layer].memory;
      if (memory.keeps_rows()) {
        const KvLayout& layout = first->kv_layout(layer);
        Bytes k(std::size_t{count} * layout.k_row_bytes);
        Bytes v(std::size_t{count} * layout.v_row_bytes);
        ASSERT_TRUE(first->read_kv(source, layer, 0, count, k, v));
        ASSERT_TRUE(second->write_kv(target, layer, 0, count, k, v));
      }
      if (memory.keeps_state()) {
        Bytes state(std::size_t{memory.state_width} * sizeof(float));
        ASSERT_TRUE(first->read_state(source, layer, state));
        ASSERT_TRUE(second->write_state(target, layer, count, state));
      }
    }
    expect_reference(test::run_chunks(*second, target, std::span(golden_.prompt).subspan(count), 1, count), count);
  }

  Golden golden_;
};

INSTANTIATE_TEST_SUITE_P(Files, OnDevice, testing::ValuesIn(models()),
                         [](const auto& test) { return test::test_name(test.param.first); });

TEST_P(OnDevice, AgreesWhenPrefilledAtOnce) { expect_reference_in_chunks_of(512); }
TEST_P(OnDevice, AgreesInChunksOf16) { expect_reference_in_chunks_of(16); }
TEST_P(OnDevice, AgreesTokenByToken) { expect_reference_in_chunks_of(1); }
TEST_P(OnDevice, ReadsForTheCpu) { expect_reference_across(device().name, "CPU"); }
TEST_P(OnDevice, GoesOnFromTheCpu) { expect_reference_across("CPU", device().name); }

// Layers in engines of their own, hidden states between them, on unlike devices.
TEST_P(OnDevice, SharesTheLayersWithTheCpu) {
  const auto lower = engine(device().name);
  const auto upper = engine("CPU");
  Sequence below = test::reserve(*lower, 256);
  Sequence above = test::reserve(*upper, 256);
  const auto count = static_cast<std::uint32_t>(golden_.prompt.size());
  const std::uint32_t layers = lower->shape().layer_count;
  std::vector<float> hidden(std::size_t{count} * lower->shape().embedding_width);
  std::vector<float> logits(golden_.logits.size());
  BatchSpan span{.sequence = &below, .first_position = 0, .token_count = count};
  ASSERT_TRUE(lower->forward({.layers = {0, 1}, .spans = {&span, 1}, .tokens = golden_.prompt, .hidden = {}},
                             {.hidden = hidden, .logits = {}}));
  span.sequence = &above;
  span.logits = WantedLogits::kAll;
  ASSERT_TRUE(upper->forward({.layers = {1, layers}, .spans = {&span, 1}, .tokens = {}, .hidden = hidden},
                             {.hidden = {}, .logits = logits}));
  expect_reference(logits, 0);
}

TEST_P(OnDevice, GivesBackTheKvThatItWasGiven) {
  const auto owned = engine(device().name);
  Sequence sequence = test::reserve(*owned, 256);
  const auto& layers = owned->shape().layers;
  const auto found = std::ranges::find_if(layers, [](const auto& one) { return one.memory.keeps_rows(); });
  if (found == layers.end()) GTEST_SKIP() << "the model keeps states alone";
  const auto layer = static_cast<std::uint32_t>(found - layers.begin());
  const KvLayout& layout = owned->kv_layout(layer);
  Bytes k(layout.k_row_bytes, std::byte{0x11});
  Bytes v(layout.v_row_bytes, std::byte{0x22});
  ASSERT_TRUE(owned->write_kv(sequence, layer, 7, 1, k, v));
  // Where there is a view it must be what was written; reading always must.
  if (const auto view = owned->view(sequence, layer, 7, 1)) {
    EXPECT_TRUE(std::ranges::equal(view->k, k));
  }
  Bytes k_back(layout.k_row_bytes);
  Bytes v_back(layout.v_row_bytes);
  ASSERT_TRUE(owned->read_kv(sequence, layer, 7, 1, k_back, v_back));
  EXPECT_EQ(k_back, k);
  EXPECT_EQ(v_back, v);
}

}  // namespace
}  // namespace baton::engine
