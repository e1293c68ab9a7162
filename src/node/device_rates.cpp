#include "node/device_rates.h"

#include <algorithm>
#include <format>
#include <glaze/glaze.hpp>
#include <optional>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "engine/benchmark.h"
#include "engine/memory_need.h"
#include "model/cost.h"
#include "plan/device_profiles.h"

namespace baton::node {

// The file's members.
struct RememberedRates {
  std::string model;   // SHA-256 of its file
  std::string device;  // and how it is used
  double flops_per_second = 0;
  double attention_factor = 0;
  double bytes_per_second = 0;
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
};

struct RatesFile {
  int format = 0;
  std::vector<RememberedRates> rates;  // the oldest first
};

namespace {

constexpr int kFormat = 1;
constexpr std::size_t kMostRemembered = 64;

// What each part may take, on a machine that is slow.
constexpr double kReadSeconds = 1.5;
constexpr double kWriteSeconds = 0.7;
constexpr std::uint32_t kFirstRead = 16;
constexpr std::uint32_t kMostDepth = 4096;
// Of the tokens that are read there: deep enough for attention to show, and no second more than it needs.
constexpr std::uint32_t kDepthPerToken = 16;
constexpr std::uint32_t kMostWritten = 16;
// Whatever else runs disturbs a short pass most, and it costs little to make it twice.
constexpr double kShortSeconds = 0.5;

Result<double> read_once(engine::Engine& engine, std::uint32_t tokens, std::uint32_t depth) {
  const engine::BenchmarkRun run{
      .tokens = tokens, .depth = depth, .content = engine::CellContent::kAny, .warm_ups = 0, .repetitions = 1};
  return TRY(engine::prompt_tokens_per_second(engine, run))
  .mean;
}

// Whether layers can begin anywhere, so that depth costs nothing to make.
bool depth_is_free(const engine::Engine& engine) {
  for (std::uint32_t layer = 0; layer < engine.shape().layer_count; ++layer) {
    if (engine.keeps_window(layer) || engine.shape().layers[layer].memory.keeps_state()) return false;
  }
  return true;
}

// The faster of two reads where one should be short, going by what is known.
Result<double> read_rate(engine::Engine& engine, std::uint32_t tokens, std::uint32_t depth, double known_rate) {
  const double rate = TRY(read_once(engine, tokens, depth));
  const std::uint32_t all = depth_is_free(engine) ? tokens : depth + tokens;
  if (all > kShortSeconds * known_rate) return rate;
  return std::max(rate, TRY(read_once(engine, tokens, depth)));
}

Result<double> write_rate(engine::Engine& engine, std::uint32_t tokens) {
  return TRY(engine::generated_tokens_per_second(engine, {.tokens = tokens, .repetitions = 1}))
  .mean;
}

// As many as can be done in that time, doubled from the least.
std::uint32_t affordable(double per_second, double seconds, std::uint32_t least, std::uint32_t most) {
  std::uint32_t tokens = std::min(least, most);
  while (tokens * 2 <= most && tokens * 2 <= per_second * seconds) tokens *= 2;
  return tokens;
}

std::uint32_t deep_enough(const engine::Engine& engine, std::uint32_t tokens, double per_second) {
  const std::uint32_t room = std::min(engine.options().context_tokens, engine.free_cells());
  const std::uint32_t most = room > tokens ? std::min({kMostDepth, kDepthPerToken * tokens, room - tokens}) : 0;
  if (depth_is_free(engine)) return most;
  return std::min(most, static_cast<std::uint32_t>(per_second * kReadSeconds));
}

Result<RatesFile> read_rates(const std::filesystem::path& path) {
  std::error_code unknown;
  if (!std::filesystem::exists(path, unknown)) return RatesFile{kFormat, {}};
  RatesFile file;
  const std::string text = TRY(read_text_file(path));
  if (glz::read_json(file, text) || file.format != kFormat) {
    return fail(ErrorCode::kCorrupt, "this is no file of measured rates of this version", path.string());
  }
  return file;
}

std::optional<DeviceRates> checked(const RememberedRates& known) {
  const DeviceRates found{{known.flops_per_second, known.attention_factor, known.bytes_per_second},
                          known.prefill_tokens_per_s,
                          known.decode_tokens_per_s};
  const bool good = plan::check_rates(found.rates) && found.prefill_tokens_per_s > 0 && found.decode_tokens_per_s > 0;
  return good ? std::optional(found) : std::nullopt;
}

}  // namespace

std::string device_and_use(const engine::Engine& engine) {
  const engine::EngineOptions& options = engine.options();
  std::string name = std::format("{}, {}, {} threads, chunks of {}, {} cache, prefill pack {}", engine.device().name,
                                 engine.device().description, options.threads, options.max_chunk_tokens,
                                 engine::cache_type_name(options.cache_type), static_cast<int>(options.prefill_pack));
  if (options.emulation) {
    name += std::format(", emulating {} TFLOPS and {} GB/s", options.emulation->teraflops,
                        options.emulation->gigabytes_per_second);
  }
  return name;
}

Result<DeviceRates> measure_rates(engine::Engine& engine) {
  const std::uint32_t chunk = engine.options().max_chunk_tokens;
  std::uint32_t tokens = std::min(kFirstRead, chunk);
  DeviceRates found;
  // Twice, since the first pass of all loads what it uses.
  found.prefill_tokens_per_s = std::max(TRY(read_once(engine, tokens, 0)), TRY(read_once(engine, tokens, 0)));
  // As close to a whole chunk as there is time for: a device reads more tokens at once faster.
  while (tokens < chunk && std::min(4 * tokens, chunk) <= kReadSeconds * found.prefill_tokens_per_s) {
    tokens = std::min(4 * tokens, chunk);
    found.prefill_tokens_per_s = TRY(read_rate(engine, tokens, 0, found.prefill_tokens_per_s));
  }
  plan::Timings timings;
  timings.shallow = timings.deep = {.depth = 0, .tokens = tokens, .seconds = tokens / found.prefill_tokens_per_s};
  const std::uint32_t depth = deep_enough(engine, tokens, found.prefill_tokens_per_s);
  // Not much deeper, attention is no larger part.
  if (depth >= tokens) {
    timings.deep = {
      .depth = depth,
      .tokens = tokens,
      .seconds = tokens / TRY(read_rate(engine, tokens, depth, found.prefill_tokens_per_s))
    };
  }
  const std::uint32_t written = affordable(TRY(write_rate(engine, 1)), kWriteSeconds, 1, kMostWritten);
  // The faster of two, since a step is short and whatever else runs disturbs it most.
  found.decode_tokens_per_s = std::max(TRY(write_rate(engine, written)), TRY(write_rate(engine, written)));
  timings.write = {.depth = 0, .tokens = written, .seconds = written / found.decode_tokens_per_s};
  engine.reset_emulation_report();
  found.rates = TRY(plan::fit_rates(engine.shape(), engine::kv_bytes_per_value(engine.options().cache_type), timings));
  return found;
}

Result<DeviceRates> profile_rates(const model::ModelShape& shape, std::string_view profile, double kv_bytes_per_value) {
  const plan::Device device = TRY(plan::find_device_profile(profile))
  .device(0);
  DeviceRates rates{.rates = {device.flops_per_second, device.attention_factor, device.bytes_per_second}};
  const model::TokenRun token{0, 1};
  model::Cost cost = model::head_cost(shape, 1);
  for (std::uint32_t layer = 0; layer < shape.layer_count; ++layer) {
    const model::LayerMemory& kept = shape.layers[layer].memory;
    cost += model::layer_cost(shape, layer, {&token, 1},
                              (static_cast<double>(kept.k_width) + kept.v_width) * kv_bytes_per_value);
  }
  rates.prefill_tokens_per_s = device.flops_per_second / cost.flops;
  rates.decode_tokens_per_s = device.bytes_per_second / cost.bytes;
  return rates;
}

Result<DeviceRates> remembered_rates(engine::Engine& engine, const Sha256& model, const std::filesystem::path& path,
                                     Measure measure) {
  auto file = read_rates(path);
  if (!file) {
    log::warning("{}: measuring again", file.error().to_string());
    file = RatesFile{kFormat, {}};
  }
  RememberedRates entry{.model = model.hex(), .device = device_and_use(engine)};
  const auto is_same = [&](const RememberedRates& other) {
    return other.model == entry.model && other.device == entry.device;
  };
  const auto known = std::ranges::find_if(file->rates, is_same);
  if (measure == Measure::kOnce && known != file->rates.end()) {
    if (const auto rates = checked(*known)) return *rates;
    log::warning("{}: what was measured with this model is damaged: measuring again", path.string());
  }
  const DeviceRates found = TRY(measure_rates(engine));
  std::erase_if(file->rates, is_same);
  if (file->rates.size() >= kMostRemembered) file->rates.erase(file->rates.begin());
  entry.flops_per_second = found.rates.flops_per_second;
  entry.attention_factor = found.rates.attention_factor;
  entry.bytes_per_second = found.rates.bytes_per_second;
  entry.prefill_tokens_per_s = found.prefill_tokens_per_s;
  entry.decode_tokens_per_s = found.decode_tokens_per_s;
  file->rates.push_back(std::move(entry));
  const std::string text = glz::write_json(*file).value_or("");
  if (const auto written = write_file(path, as_byte_span(text), 0600); !written) {
    log::warning("{}", written.error().to_string());
  }
  return found;
}

}  // namespace baton::node
