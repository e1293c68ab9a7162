// Real passes of a small model on an emulated device, whose rates are known and must be found.
#include "node/device_rates.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <cmath>
#include <thread>

#include "base/clock.h"
#include "base/file.h"
#include "base/temporary_folder.h"
#include "engine/test_model.h"

namespace baton::node {
namespace {

constexpr engine::EmulatedDevice kDevice{.teraflops = 0.0016, .gigabytes_per_second = 0.2};

class Rates : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_.emplace(TemporaryFolder::create("baton-rates").value());
    model_ = engine::test::synthetic_model(folder_->path() / "model.gguf", 4);
  }
  static void TearDownTestSuite() {
    model_.reset();
    folder_.reset();
  }
  static std::unique_ptr<engine::Engine> make_engine(std::optional<engine::EmulatedDevice> device = kDevice) {
    engine::EngineOptions options;
    options.device = "CPU";
    options.threads = 1;
    options.context_tokens = 512;
    options.max_chunk_tokens = 64;
    options.emulation = device;
    return engine::Engine::create(model_, options).value();
  }
  static std::filesystem::path file() { return folder_->path() / "rates.json"; }
  static void write(std::string_view text) { ASSERT_TRUE(write_file(file(), as_byte_span(text))); }

  void TearDown() override { std::filesystem::remove(file()); }

  static std::optional<TemporaryFolder> folder_;
  static std::shared_ptr<const engine::Model> model_;
};

std::optional<TemporaryFolder> Rates::folder_;
std::shared_ptr<const engine::Model> Rates::model_;

// Whether they are kDevice's, but for so large a part.
bool are_near(const DeviceRates& found, double part) {
  return std::abs(found.rates.flops_per_second / 1.6e9 - 1) < part &&
         std::abs(found.rates.bytes_per_second / 0.2e9 - 1) < part && std::abs(found.rates.attention_factor - 1) < 0.5;
}

TEST_F(Rates, AreThoseOfTheDeviceThatIsEmulated) {
  const auto engine = make_engine();
  DeviceRates found;
  // Other work on this machine may disturb some measurements.
  for (int attempt = 0; attempt < 6 && !are_near(found, 0.15); ++attempt) {
    const auto measured = measure_rates(*engine);
    ASSERT_TRUE(measured) << measured.error().to_string();
    found = *measured;
    EXPECT_LT(found.rates.flops_per_second / 1.6e9, 1.15);
    EXPECT_LT(found.rates.bytes_per_second / 0.2e9, 1.15);
    EXPECT_GT(found.prefill_tokens_per_s, found.decode_tokens_per_s);
    EXPECT_EQ(engine->free_cells(), engine->options().context_tokens);
  }
  EXPECT_TRUE(are_near(found, 0.15)) << found.rates.flops_per_second << ", " << found.rates.bytes_per_second << ", "
                                     << found.rates.attention_factor;
}

// What holds a busy machine's thread up, whatever it is doing.
void stall(int) {
  const timespec time{.tv_sec = 0, .tv_nsec = 100'000'000};
  ::nanosleep(&time, nullptr);
}

DeviceRates measure_stalled(engine::Engine& engine, Duration after) {
  const pthread_t measuring = ::pthread_self();
  const std::jthread disturber([&] {
    std::this_thread::sleep_for(after);
    ::pthread_kill(measuring, SIGUSR1);
  });
  return measure_rates(engine).value();
}

TEST_F(Rates, AreNotThoseOfAMomentInWhichTheMachineStalled) {
  const auto engine = make_engine();
  struct sigaction stalling{};
  struct sigaction before{};
  stalling.sa_handler = stall;
  ::sigaction(SIGUSR1, &stalling, &before);
  const TimePoint began = now();
  ASSERT_TRUE(measure_rates(*engine));
  const Duration all = now() - began;
  constexpr int kMoments = 8;
  for (int moment = 0; moment < kMoments; ++moment) {
    DeviceRates found;
    // It may be disturbed by more than this.
    for (int attempt = 0; attempt < 4 && !are_near(found, 0.3); ++attempt) {
      found = measure_stalled(*engine, all * moment / kMoments);
    }
    EXPECT_TRUE(are_near(found, 0.3)) << "at " << moment << " of " << kMoments << ": " << found.rates.flops_per_second
                                      << ", " << found.rates.bytes_per_second << ", " << found.rates.attention_factor;
  }
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_F(Rates, AreMeasuredOnceAndRemembered) {
  const auto engine = make_engine();
  const Sha256 digest = sha256(as_byte_span("a model"));
  const auto first = remembered_rates(*engine, digest, file());
  ASSERT_TRUE(first) << first.error().to_string();
  EXPECT_EQ(*remembered_rates(*make_engine(), digest, file()), *first);
  // Of another model or another device nothing is known, and what was known stays.
  const auto other = remembered_rates(*engine, sha256(as_byte_span("another")), file());
  ASSERT_TRUE(other);
  EXPECT_NE(*other, *first);
  const auto faster = remembered_rates(
      *make_engine(engine::EmulatedDevice{.teraflops = 0.0032, .gigabytes_per_second = 0.4}), digest, file());
  ASSERT_TRUE(faster);
  EXPECT_GT(faster->rates.bytes_per_second, 1.5 * first->rates.bytes_per_second);
  EXPECT_EQ(*remembered_rates(*engine, digest, file()), *first);
}

TEST_F(Rates, AreMeasuredAnewWhereThatIsAskedFor) {
  const auto engine = make_engine();
  const Sha256 digest = sha256(as_byte_span("a model"));
  const auto first = remembered_rates(*engine, digest, file());
  ASSERT_TRUE(first);
  // As if the machine had been busy then.
  std::string text = read_text_file(file()).value();
  const std::string name = "\"bytes_per_second\":";
  text.insert(text.find(name) + name.size(), "1");
  const std::size_t digits = text.find(name) + name.size() + 1;
  text.erase(digits, text.find(',', digits) - digits);
  write(text);
  EXPECT_EQ(remembered_rates(*engine, digest, file())->rates.bytes_per_second, 1);
  const auto anew = remembered_rates(*engine, digest, file(), Measure::kAnew);
  ASSERT_TRUE(anew);
  EXPECT_GT(anew->rates.bytes_per_second, first->rates.bytes_per_second / 2);
  EXPECT_EQ(*remembered_rates(*engine, digest, file()), *anew);
}

TEST_F(Rates, AreMeasuredAnewWhereTheFileIsDamaged) {
  const auto engine = make_engine();
  const Sha256 digest = sha256(as_byte_span("a model"));
  for (const std::string_view damaged : {"", "{", "[]", R"({"format":2,"rates":[]})"}) {
    write(damaged);
    const auto found = remembered_rates(*engine, digest, file());
    ASSERT_TRUE(found) << damaged;
    EXPECT_EQ(*remembered_rates(*engine, digest, file()), *found);
  }
  // A number that no device could have.
  const std::string text = read_text_file(file()).value();
  const std::string name = "\"bytes_per_second\":";
  const std::size_t at = text.find(name) + name.size();
  write(text.substr(0, at) + "-1" + text.substr(text.find(',', at)));
  const auto found = remembered_rates(*engine, digest, file());
  ASSERT_TRUE(found);
  EXPECT_GT(found->rates.bytes_per_second, 0);
}

TEST_F(Rates, OfAFileThatCannotBeWrittenAreStillGood) {
  const auto engine = make_engine();
  EXPECT_TRUE(remembered_rates(*engine, sha256(as_byte_span("a model")), folder_->path() / "missing" / "rates.json"));
}

TEST_F(Rates, OfAProfileNeedNoPass) {
  const auto found = profile_rates(model_->shape(), "m3ultra", 2);
  ASSERT_TRUE(found);
  EXPECT_GT(found->decode_tokens_per_s, 0);
  EXPECT_GT(found->prefill_tokens_per_s, 0);
  const auto unknown = profile_rates(model_->shape(), "abacus", 2);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace baton::node
