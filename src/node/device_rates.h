// How fast this machine is with a model: measured when the model is loaded, in a few seconds, and remembered.
#pragma once

#include <filesystem>
#include <string>

#include "base/digest.h"
#include "base/result.h"
#include "engine/engine.h"
#include "plan/rates.h"

namespace baton::node {

struct DeviceRates {
  plan::Rates rates;
  // Of a prompt's first tokens, and of an answer's.
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;

  bool operator==(const DeviceRates&) const = default;
};

// Times real passes, for up to some five seconds on a slow machine and far less on a fast one. Executor thread, while
// nobody else uses the engine. Errors: those of the engine's passes; kNoCapacity where its cache is too small to try.
Result<DeviceRates> measure_rates(engine::Engine& engine);

// What a profile of `baton plan --list` says. kNotFound.
Result<DeviceRates> profile_rates(const model::ModelShape& shape, std::string_view profile, double kv_bytes_per_value);

// The device, and everything that makes it faster or slower with the same model.
std::string device_and_use(const engine::Engine& engine);

enum class Measure { kOnce, kAnew };

// As measured before with this model, device and way to use it (docs/formats/measured-rates.md), else, and with kAnew
// in any case, measured now and written down. A file that is damaged is measured anew, with a warning; one that cannot
// be written costs a warning.
Result<DeviceRates> remembered_rates(engine::Engine& engine, const Sha256& model, const std::filesystem::path& file,
                                     Measure measure = Measure::kOnce);

}  // namespace baton::node
