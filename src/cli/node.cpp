#include "node/node.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <format>
#include <memory>
#include <set>

#include "base/log.h"
#include "cli/command.h"
#include "cli/model_source.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "cli/speculation_flags.h"
#include "cli/text_output.h"

namespace baton::cli {

namespace {

struct NodeFlags {
  std::string model;
  std::string listen = "0.0.0.0:8771";
  std::vector<std::string> trust;
  std::string layers;
  std::uint32_t sequences = engine::EngineOptions{}.sequences;
  bool quiet = false;
  SpeculationFlags guessing;
  DeviceFlags device;
  LinkFlags link;
};

constexpr std::uint32_t kDefaultContextTokens = 16384;

// How long a node that is told to end waits for its peers to hear it.
constexpr auto kGoodbyeTimeout = std::chrono::seconds(2);

Result<void> run_node(const NodeFlags& flags) {
  log::set_level(flags.quiet ? log::Level::kError : log::Level::kInfo);
  const net::Identity identity = TRY(flags.link.identity());
  std::set<net::Fingerprint> trusted;
  for (const std::string& text : flags.trust) trusted.insert(TRY(in_flag("--trust", net::Fingerprint::parse(text))));

  engine::EngineOptions options = TRY(flags.device.engine_options());
  options.sequences = flags.sequences;
  if (!flags.layers.empty()) options.layers = TRY(parse_layers(flags.layers));
  const auto model = TRY(engine::Model::open(TRY(obtain_model(flags.model, flags.link)).path));
  const auto draft = TRY(flags.guessing.open_draft(*model));
  const Sha256 digest = TRY(model->digest());

  const auto loop = TRY(net::EventLoop::create());
  std::unique_ptr<node::Node> node;
  // Posted, so that a signal during the loading of the model is kept until the loop runs.
  const SignalWatch signals([&] {
    loop->post([&] {
      log::info("shutting down");
      node->shut_down(kGoodbyeTimeout, [&] { loop->stop(); });
    });
  });
  node::NodeOptions node_options;
  node_options.listen = TRY(in_flag("--listen", net::Endpoint::parse_listen(flags.listen)));
  node_options.is_trusted = [trusted](const net::Fingerprint& peer) { return trusted.contains(peer); };
  node_options.emulate_link = TRY(flags.link.link_emulation());
  auto executor = TRY(start_executor(model, options));
  auto guessing = TRY(flags.guessing.load_draft(draft, executor->engine()));
  node = TRY(node::Node::create(*loop, identity, std::move(node_options)));
  node->add({.executor = std::move(executor), .digest = digest, .draft = std::move(guessing)});
  TRY(print(std::format("{}#{}\n", node->endpoint()->to_string(), identity.fingerprint().to_string())));
  if (const std::string& host = node->endpoint()->host; host == "0.0.0.0" || host == "::") {
    std::fputs("baton: give other machines a name or an address of this one in place of the zeros\n", stderr);
  }
  if (trusted.empty()) {
    std::fputs(
        "baton: nobody may connect to this node: start it with --trust FINGERPRINT, which 'baton id' prints on the "
        "other machine\n",
        stderr);
  }
  loop->run();
  return {};
}

}  // namespace

void add_node(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<NodeFlags>();
  CLI::App* command = app.add_subcommand("node", "Serve a model's layers to other nodes");
  command->add_option("MODEL", flags->model, kModelHelp)->required();
  command->add_flag("-q,--quiet", flags->quiet, "Say nothing but the address and errors");
  command->option_defaults()->group("Peers");
  command->add_option("--listen", flags->listen, "Address to listen on, such as 127.0.0.1:8771; port 0 chooses one")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command->add_option("--trust", flags->trust, "Who may connect (see 'baton id'); repeatable; without it, nobody")
      ->type_name("FINGERPRINT");
  command->add_option("--layers", flags->layers, "Layers to load, such as 0-16; by default all")->type_name("FROM-TO");
  command
      ->add_option(
          "--sequences", flags->sequences,
          "How many long requests at once find room in layers with a sliding window, which keep little of each")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  flags->guessing.add_model_to(*command);
  flags->device.context_tokens = kDefaultContextTokens;
  flags->device.add_to(*command);
  flags->link.add_interface_to(*command);
  command->footer(
      "Prints its address as host:port#fingerprint, which is what --peer and --prefill-on take. On SIGINT\n"
      "or SIGTERM it tells its peers that it goes, and ends with status 0.\n\n"
      "Examples:\n"
      "  baton node model.gguf --listen 0.0.0.0:8771 --trust 3f1c...\n"
      "  baton node large.gguf --trust 3f1c... --draft small.gguf   # and guesses for 'baton run --draft-on'");
  command->callback([&chosen, flags] { chosen = [flags] { return run_node(*flags); }; });
}

}  // namespace baton::cli
