// Options that several commands share, and what they turn into.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/layer_range.h"
#include "base/result.h"
#include "cli/text_output.h"
#include "engine/engine.h"
#include "engine/executor.h"
#include "handoff/messages.h"
#include "net/endpoint.h"
#include "net/identity.h"
#include "net/link_emulation.h"

namespace CLI {
class App;
}

namespace baton::cli {

// --json, which turns `format` to kJson; that must live as long as the command.
void add_json_flag(CLI::App& command, OutputFormat& format, const std::string& description);

// Which device computes, and how: --device, --threads, --ctx, --chunk, --cache-type, --prefill-pack, --emulate-tflops,
// --emulate-gbps.
struct DeviceFlags {
  std::string device;
  unsigned threads = 0;
  std::uint32_t context_tokens = 0;  // 0: the command works it out; another value before add_to() is the default
  std::uint32_t chunk_tokens = 512;
  std::string cache_type = "f16";
  std::string prefill_pack = "auto";
  double emulate_tflops = 0;
  double emulate_gbps = 0;

  void add_to(CLI::App& command);
  // Says on standard error where there are fewer cores than --threads.
  Result<engine::EngineOptions> engine_options() const;
};

// How this node talks to others: --codec, --hidden, --emulate-link, --data.
struct LinkFlags {
  std::string codec = "f16";
  std::string hidden = "f32";
  std::string emulate_link;
  std::string home;

  void add_to(CLI::App& command);
  void add_interface_to(CLI::App& command);  // without what a request chooses
  void add_home_to(CLI::App& command);
  Result<handoff::DType> codec_type() const;
  Result<handoff::DType> hidden_type() const;
  Result<std::optional<net::LinkEmulation>> link_emulation() const;
  // The key of this machine (or of `home`), made at first use.
  Result<net::Identity> identity() const;
  // Where that key is kept, and what belongs to this machine's cluster.
  Result<std::filesystem::path> folder() const;
};

// What this machine is called, as far as a node can be called so; "node" where it has no such name.
std::string machine_name();

// Loads the model on the device and starts the thread that computes with it.
Result<std::unique_ptr<engine::Executor>> start_executor(std::shared_ptr<const engine::Model> model,
                                                         const engine::EngineOptions& options);

// Its error names the flag whose value it is about.
template <typename T>
Result<T> in_flag(std::string_view flag, Result<T> value) {
  if (!value) value.error().context = flag;
  return value;
}

// "host:port", or a host alone, whose port is then 0.
Result<net::Endpoint> parse_advertised(std::string_view text);

// "0-16"
Result<LayerRange> parse_layers(std::string_view text);

// "1,2,3"
Result<std::vector<Token>> parse_tokens(std::string_view text);

// The whole file; "-" is what is piped in.
Result<std::string> read_text(const std::string& path);

}  // namespace baton::cli
