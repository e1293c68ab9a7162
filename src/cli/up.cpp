#include <CLI/CLI.hpp>

#include <chrono>
#include <format>
#include <memory>
#include <optional>

#include "base/log.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/own_state.h"
#include "cli/signals.h"
#include "cli/text_output.h"
#include "cluster/home.h"
#include "node/node.h"

namespace baton::cli {

namespace {

struct UpFlags {
  std::string model;
  std::string listen = "0.0.0.0:8771";
  std::vector<std::string> advertise;
  std::string name;
  std::string cluster = "home";
  std::int64_t certificate_life_s = 24 * 3600;
  std::string layers;
  std::uint32_t sequences = engine::EngineOptions{}.sequences;
  bool quiet = false;
  DeviceFlags device;
  LinkFlags link;
};

constexpr std::uint32_t kDefaultContextTokens = 16384;
constexpr auto kGoodbyeTimeout = std::chrono::seconds(2);
Result<cluster::MembershipOptions> membership_options(const UpFlags& flags) {
  cluster::MembershipOptions options;
  options.listen = TRY(net::Endpoint::parse_listen(flags.listen));
  for (const std::string& text : flags.advertise) options.advertise.push_back(TRY(net::Endpoint::parse(text)));
  options.emulate_link = TRY(flags.link.link_emulation());
  options.certificate_life = std::chrono::seconds(flags.certificate_life_s);
  return options;
}

cluster::NewCluster new_cluster(const UpFlags& flags) {
  return {.name = flags.cluster, .node_name = flags.name.empty() ? machine_name() : flags.name};
}

Result<void> run_up(const UpFlags& flags) {
  log::set_level(flags.quiet ? log::Level::kError : log::Level::kInfo);
  const auto loop = TRY(net::EventLoop::create());
  const auto home = TRY(cluster::Home::open(*loop, TRY(flags.link.folder())));
  engine::EngineOptions options = TRY(flags.device.engine_options());
  options.sequences = flags.sequences;
  if (!flags.layers.empty()) options.layers = TRY(parse_layers(flags.layers));
  cluster::MembershipOptions membership = TRY(membership_options(flags));
  const auto model = TRY(engine::Model::open(flags.model));
  const Sha256 digest = TRY(model->digest());

  std::unique_ptr<node::Node> node;
  std::optional<Error> out;
  const auto shut_down = [&] {
    node->shut_down(kGoodbyeTimeout, [&] { home->membership().shut_down(kGoodbyeTimeout, [&] { loop->stop(); }); });
  };
  // Posted, so that a signal during the loading of the model is kept until the loop runs.
  const SignalWatch signals([&] {
    loop->post([&] {
      log::info("shutting down");
      shut_down();
    });
  });
  auto executor = TRY(start_executor(model, options));
  OwnState own_state(*model, digest, executor->engine().options());
  membership.on_work = [&](auto connection) { node->adopt(std::move(connection)); };
  membership.on_cut_off = [&](const net::Fingerprint& peer) { node->cut_off(peer); };
  membership.on_out = [&](const Error& error) {
    out = error;
    shut_down();
  };
  membership.state = [&] { return node ? own_state.now(*node) : cluster::NodeState(); };
  TRY(home->enter(std::move(membership), new_cluster(flags)));
  node::NodeOptions node_options;
  node_options.transport = &home->membership().work_transport();
  node_options.is_trusted = [&](const net::Fingerprint& peer) { return home->membership().may_work(peer); };
  node = TRY(node::Node::create(*loop, home->identity(), std::move(executor), digest, std::move(node_options)));
  // What else serves this machine's users, such as an HTTP API, joins `loop` here and submits its requests to `node`.
  TRY(print(
      std::format("{}#{}\n", home->membership().endpoint().to_string(), home->identity().fingerprint().to_string())));
  loop->run();
  if (out) return std::unexpected(*out);
  return {};
}

}  // namespace

void add_up(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<UpFlags>();
  CLI::App* command =
      app.add_subcommand("up", "Run this machine's node of its cluster; the first one begins a cluster");
  command->add_option("MODEL", flags->model, "GGUF file")->required();
  command->add_flag("-q,--quiet", flags->quiet, "Say nothing but the address and errors");
  command->option_defaults()->group("Cluster");
  command->add_option("--listen", flags->listen, "Address to listen on, such as 127.0.0.1:8771; port 0 chooses one")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command
      ->add_option("--advertise", flags->advertise,
                   "Where the others reach this node; repeatable; by default every address of this machine")
      ->type_name("HOST:PORT");
  command->add_option("--name", flags->name,
                      "What the first node of a new cluster is called; by default this machine's name");
  command->add_option("--cluster", flags->cluster, "What a new cluster is called")->capture_default_str();
  command
      ->add_option("--certificate-life", flags->certificate_life_s,
                   "Seconds that certificates live which this node gives out as an admin; they renew themselves")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{30 * 24 * 3600}))
      ->capture_default_str();
  command->option_defaults()->group("Model");
  command->add_option("--layers", flags->layers, "Layers to load, such as 0-16; by default all")->type_name("FROM-TO");
  command
      ->add_option(
          "--sequences", flags->sequences,
          "How many long requests at once find room in layers with a sliding window, which keep little of each")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  flags->device.context_tokens = kDefaultContextTokens;
  flags->device.add_to(*command);
  flags->link.add_interface_to(*command);
  command->footer(
      "Prints its address as host:port#fingerprint. 'baton token' on this machine and 'baton join' on another let "
      "that\n"
      "one in, where 'baton up' then runs a node, too. On SIGINT or SIGTERM it tells the others that it goes.\n\n"
      "Example:\n  baton up model.gguf --listen 0.0.0.0:8771 --data ~/.local/share/baton");
  command->callback([&chosen, flags] { chosen = [flags] { return run_up(*flags); }; });
}

}  // namespace baton::cli
