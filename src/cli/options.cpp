#include "cli/options.h"

#include <unistd.h>
#include <CLI/CLI.hpp>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <format>

#include "base/file.h"
#include "base/stream.h"
#include "engine/device.h"
#include "engine/model.h"
#include "trust/statement.h"

namespace baton::cli {

namespace {

// $XDG_DATA_HOME/baton, or its default (XDG Base Directory Specification).
Result<std::filesystem::path> default_home() {
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data == '/') {
    return std::filesystem::path(data) / "baton";
  }
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') {
    return fail(ErrorCode::kInvalidArgument, "neither --data nor $HOME says where this machine's key is kept");
  }
  return std::filesystem::path(home) / ".local/share/baton";
}

}  // namespace

void add_json_flag(CLI::App& command, OutputFormat& format, const std::string& description) {
  command.add_flag_callback("--json", [&format] { format = OutputFormat::kJson; }, description);
}

void DeviceFlags::add_to(CLI::App& command) {
  command.option_defaults()->group("Device");
  command.add_option("--device", device, "Device to compute on; an unknown one lists those there are")
      ->type_name("NAME");
  command.add_option("-t,--threads", threads, "CPU threads; by default the cores this process may use")
      ->check(CLI::Range(1U, 1024U));
  auto* context = command.add_option("--ctx", context_tokens,
                                     context_tokens == 0 ? "Tokens of KV cache; by default what the work needs"
                                                         : "Tokens of KV cache, for all requests together");
  context->check(CLI::PositiveNumber);
  if (context_tokens != 0) context->capture_default_str();
  command.add_option("--chunk", chunk_tokens, "Prompt tokens computed at once")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command.add_option("--cache-type", cache_type, "Type of the KV cache: f16 or q8_0")
      ->type_name("TYPE")
      ->capture_default_str();
  command
      .add_option("--prefill-pack", prefill_pack,
                  "How a CPU multiplies when it reads prompts: auto (as close as ggml), bf16 (quantised weights "
                  "closer, F16 faster and coarser), int8 (fastest, coarsest), f32 (closest), off (ggml alone)")
      ->type_name("HOW")
      ->capture_default_str();
  command.add_option("--emulate-tflops", emulate_tflops, "Emulate a device of this many TFLOPS (with --emulate-gbps)");
  command.add_option("--emulate-gbps", emulate_gbps, "Emulate a device of this many GB/s (with --emulate-tflops)");
}

Result<engine::EngineOptions> DeviceFlags::engine_options() const {
  engine::EngineOptions options;
  options.device = device;
  options.threads = threads;
  if (const unsigned cores = engine::usable_cores(); threads > cores) {
    std::fprintf(
        stderr,
        "baton: --threads %u are more than the %u core%s that this process may use: they slow each other down\n",
        threads, cores, cores == 1 ? "" : "s");
  }
  options.context_tokens = context_tokens;
  options.max_chunk_tokens = chunk_tokens;
  options.cache_type = TRY(engine::parse_cache_type(cache_type));
  options.prefill_pack = TRY(engine::parse_prefill_pack(prefill_pack));
  if ((emulate_tflops != 0) != (emulate_gbps != 0)) {
    return fail(ErrorCode::kInvalidArgument, "--emulate-tflops and --emulate-gbps describe one device: give both");
  }
  if (emulate_tflops != 0) options.emulation = engine::EmulatedDevice{emulate_tflops, emulate_gbps};
  return options;
}

void LinkFlags::add_to(CLI::App& command) {
  command.option_defaults()->group("Network");
  command.add_option("--codec", codec, "How KV travels: f16 (exact), q8_0 or q4_0")
      ->type_name("TYPE")
      ->capture_default_str();
  command.add_option("--hidden", hidden, "How hidden states travel: f32 (exact), f16 or bf16")
      ->type_name("TYPE")
      ->capture_default_str();
  add_interface_to(command);
}

void LinkFlags::add_interface_to(CLI::App& command) {
  command.option_defaults()->group("Network");
  command.add_option("--emulate-link", emulate_link, "Emulate a network interface: GBIT[:LATENCY_MS]")
      ->type_name("RATE");
  add_home_to(command);
}

void LinkFlags::add_home_to(CLI::App& command) {
  command
      .add_option("--data,--home", home,
                  "Folder of this machine's key and cluster; by default in the user's data folder")
      ->type_name("FOLDER")
      ->envname("BATON_HOME");
}

Result<handoff::DType> LinkFlags::codec_type() const {
  if (codec == "f16" || codec == "q8_0" || codec == "q4_0") return handoff::find_dtype(codec);
  return fail(ErrorCode::kInvalidArgument, std::format("--codec is f16, q8_0 or q4_0, not '{}'", codec));
}

Result<handoff::DType> LinkFlags::hidden_type() const {
  if (hidden == "f32" || hidden == "f16" || hidden == "bf16") return handoff::find_dtype(hidden);
  return fail(ErrorCode::kInvalidArgument, std::format("--hidden is f32, f16 or bf16, not '{}'", hidden));
}

Result<std::optional<net::LinkEmulation>> LinkFlags::link_emulation() const {
  if (emulate_link.empty()) return std::nullopt;
  return TRY(net::LinkEmulation::parse(emulate_link));
}

Result<net::Identity> LinkFlags::identity() const { return net::Identity::load_or_create(TRY(folder())); }

Result<std::filesystem::path> LinkFlags::folder() const {
  return home.empty() ? default_home() : std::filesystem::path(home);
}

std::string machine_name() {
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) != 0) return "node";
  std::string name(host);
  name = name.substr(0, name.find('.'));
  return trust::check_name(name) ? name : "node";
}

Result<std::unique_ptr<engine::Executor>> start_executor(std::shared_ptr<const engine::Model> model,
                                                         const engine::EngineOptions& options) {
  constexpr std::size_t kQueueLimit = 256;
  return std::make_unique<engine::Executor>(TRY(engine::Engine::create(std::move(model), options)), kQueueLimit);
}

Result<net::Endpoint> parse_advertised(std::string_view text) {
  const bool has_port = text.starts_with('[') ? !text.ends_with(']') : text.find(':') != std::string_view::npos;
  if (has_port || text.empty()) return net::Endpoint::parse(text);
  return net::Endpoint::parse_listen(std::format("{}:0", text));
}

Result<LayerRange> parse_layers(std::string_view text) {
  LayerRange range;
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const auto first = std::from_chars(begin, end, range.begin);
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == '-') {
    const auto second = std::from_chars(first.ptr + 1, end, range.end);
    if (second.ec == std::errc() && second.ptr == end && !range.empty()) return range;
  }
  return fail(ErrorCode::kInvalidArgument, std::format("'{}' is not a range of layers such as 0-16", text));
}

Result<std::string> read_text(const std::string& path) {
  return path == "-" ? read_to_end(STDIN_FILENO, "standard input") : read_text_file(path);
}

Result<std::vector<Token>> parse_tokens(std::string_view text) {
  std::vector<Token> tokens;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  while (true) {
    while (at != end && *at == ' ') ++at;
    Token token = 0;
    const auto [rest, error] = std::from_chars(at, end, token);
    if (error != std::errc()) break;
    tokens.push_back(token);
    if (rest == end) return tokens;
    if (*rest != ',') break;
    at = rest + 1;
  }
  return fail(ErrorCode::kInvalidArgument, std::format("'{}' is not a list of token ids such as 1,2,3", text));
}

}  // namespace baton::cli
