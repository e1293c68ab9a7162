#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <format>
#include <future>
#include <memory>
#include <optional>

#include "base/log.h"
#include "cli/cluster_peers.h"
#include "cli/cluster_planner.h"
#include "cli/command.h"
#include "cli/given_models.h"
#include "cli/model_source.h"
#include "cli/options.h"
#include "cli/own_state.h"
#include "cli/plan_flags.h"
#include "cli/signals.h"
#include "cli/text_output.h"
#include "cluster/home.h"
#include "cluster/link_probes.h"
#include "node/device_rates.h"
#include "node/node.h"
#include "serve/server.h"

namespace baton::cli {

namespace {

struct ClusterFlags {
  std::string listen = "0.0.0.0:8771";
  std::vector<std::string> advertise;
  std::string node_name;
  std::string cluster = "home";
  std::int64_t certificate_life_s = 24 * 3600;

  void add_to(CLI::App& command);
  Result<cluster::MembershipOptions> membership_options(const LinkFlags& link) const;
  cluster::NewCluster new_cluster() const;
};

struct ApiFlags {
  std::string address = "127.0.0.1:8770";
  std::string key_file;
  std::string model_name;
  std::string template_name = "default";
  std::string speculate = "auto";
  std::size_t parallel = 8;
  std::size_t queue = 64;
  std::uint32_t default_new_tokens = 2048;

  void add_to(CLI::App& command);
  // All but what requests share.
  Result<serve::ServerOptions> server_options() const;
};

struct UpFlags {
  std::string model;
  bool quiet = false;
  ClusterFlags cluster;
  ApiFlags api;
  PlanFlags plan;
  DeviceFlags device;
  LinkFlags link;
  std::string profile;  // in place of measuring
};

constexpr std::uint32_t kDefaultContextTokens = 16384;

// How long the end waits for peers to hear of it.
constexpr auto kGoodbyeTimeout = std::chrono::seconds(2);

Result<cluster::MembershipOptions> ClusterFlags::membership_options(const LinkFlags& link) const {
  cluster::MembershipOptions options;
  options.listen = TRY(net::Endpoint::parse_listen(listen));
  for (const std::string& text : advertise) options.advertise.push_back(TRY(net::Endpoint::parse(text)));
  options.emulate_link = TRY(link.link_emulation());
  options.certificate_life = std::chrono::seconds(certificate_life_s);
  return options;
}

cluster::NewCluster ClusterFlags::new_cluster() const {
  return {.name = cluster, .node_name = node_name.empty() ? machine_name() : node_name};
}

Result<serve::ServerOptions> ApiFlags::server_options() const {
  serve::ServerOptions options;
  options.listen = TRY(net::Endpoint::parse_listen(address));
  if (!key_file.empty()) options.api_keys = TRY(serve::read_api_keys(key_file));
  options.generator.running = parallel;
  options.generator.waiting = queue;
  options.default_new_tokens = default_new_tokens;
  options.version = BATON_VERSION;
  return options;
}

Result<node::RequestOptions> shared_options(const UpFlags& flags, plan::Plan plan) {
  node::RequestOptions request;
  request.plan = std::move(plan);
  request.chunk_tokens = flags.device.chunk_tokens;
  request.codec = TRY(flags.link.codec_type());
  request.hidden = TRY(flags.link.hidden_type());
  request.speculation = TRY(node::parse_speculation(flags.api.speculate));
  request.label = "api";
  return request;
}

// Of the machine that the executor computes on, where nobody else uses it yet.
Result<node::DeviceRates> rates_of(engine::Executor& executor, const Sha256& digest, const std::string& profile,
                                   const std::filesystem::path& folder) {
  static constexpr std::string_view kRatesFile = "rates.json";
  if (!profile.empty()) {
    return node::profile_rates(executor.engine().shape(), profile, node::kv_bytes_per_value(executor.engine()));
  }
  std::promise<Result<node::DeviceRates>> measured;
  TRY(executor.submit([&](engine::Engine& engine, const std::stop_token&) {
    measured.set_value(node::remembered_rates(engine, digest, folder / kRatesFile));
  }));
  return measured.get_future().get();
}

Result<plan::RequestPlanner::Options> planner_options(const engine::Engine& engine, const LinkFlags& link) {
  const auto codec = plan::find_codec(link.codec);
  if (!codec) return fail(ErrorCode::kInvalidArgument, std::format("'{}' is no codec", link.codec));
  return plan::RequestPlanner::Options{.codec = *codec,
                                       .chunk_tokens = engine.options().max_chunk_tokens,
                                       .kv_bytes_per_value = node::kv_bytes_per_value(engine)};
}

Result<void> up(const UpFlags& flags) {
  log::set_level(flags.quiet ? log::Level::kError : log::Level::kInfo);
  const auto loop = TRY(net::EventLoop::create());
  const std::filesystem::path folder = TRY(flags.link.folder());
  const auto home = TRY(cluster::Home::open(*loop, folder));
  const ModelFile file = TRY(obtain_model(flags.model, flags.link));
  const auto model = TRY(engine::Model::open(file.path));
  const std::string& model_name = flags.api.model_name.empty() ? file.name : flags.api.model_name;
  auto served = TRY(serve::ServedModel::create(model, model_name, flags.api.template_name));
  ClusterPeers peers;
  if (flags.plan.wants_others()) peers = TRY(ClusterPeers::read(TRY(cluster::Folder::open(folder))));
  auto plan =
      TRY(flags.plan.plan_for(model->shape().layer_count, home->identity().fingerprint().to_string(), peers.nodes()));
  for (const std::string& line : peer_tasks(plan)) log::info("{}", line);
  serve::ServerOptions api = TRY(flags.api.server_options());
  cluster::MembershipOptions membership = TRY(flags.cluster.membership_options(flags.link));
  for (const plan::NodeRef& node : plan.nodes) {
    const bool by_hand = !node.fingerprint.empty() &&
                         !std::ranges::contains(peers.nodes(), node.fingerprint, &plan::NodeRef::fingerprint);
    if (by_hand) membership.linked_by_hand.push_back(TRY(net::Fingerprint::parse(node.fingerprint)));
  }
  api.request = TRY(shared_options(flags, std::move(plan)));
  engine::EngineOptions options = TRY(flags.device.engine_options());
  options.sequences = std::max(options.sequences, static_cast<std::uint32_t>(flags.api.parallel));
  const Sha256 digest = TRY(model->digest());

  std::unique_ptr<node::Node> node;
  std::unique_ptr<ClusterPlanner> planner;
  std::unique_ptr<serve::Server> server;
  std::optional<Error> out;
  const auto shut_down = [&] {
    server.reset();
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
  const node::DeviceRates rates = TRY(rates_of(*executor, digest, flags.profile, folder));
  log::info("this machine reads {:.4g} and writes {:.4g} tokens a second", rates.prefill_tokens_per_s,
            rates.decode_tokens_per_s);
  OwnState own_state(*model, digest, executor->engine().options());
  cluster::LinkProbes probes(*loop, [&] { return node && node->transfers() == 0 && planner && planner->is_idle(); });
  membership.on_work = [&](auto connection) { node->adopt(std::move(connection)); };
  membership.on_probe = [&](auto connection) { probes.adopt(std::move(connection)); };
  const auto is_busy = [&] { return node && (node->transfers() > 0 || (planner && !planner->is_idle())); };
  store::ModelGiver giver(*loop, given_models(TRY(open_store(flags.link)), *model, digest), is_busy);
  membership.on_fetch = [&](auto connection) { giver.adopt(std::move(connection)); };
  membership.on_cut_off = [&](const net::Fingerprint& peer) {
    giver.cut_off(peer);
    node->cut_off(peer);
  };
  membership.on_out = [&](const Error& error) {
    out = error;
    shut_down();
  };
  membership.state = [&] { return planner ? own_state.now(*node, *planner) : cluster::NodeState(); };
  TRY(home->enter(std::move(membership), flags.cluster.new_cluster()));
  node::NodeOptions node_options;
  node_options.transport = &home->membership().work_transport();
  node_options.is_trusted = [&](const net::Fingerprint& peer) { return home->membership().may_work(peer); };
  node = TRY(node::Node::create(*loop, home->identity(), std::move(executor), digest, std::move(node_options)));
  planner = std::make_unique<ClusterPlanner>(
      *node, home->membership(), probes, ClusterPlanner::Options {
        .plan_by = flags.plan.wants_others() ? PlanBy::kFlags : PlanBy::kRequest,
        .planner = TRY(planner_options(node->executor().engine(), flags.link))
        , .model_digest = digest.hex(), .rates = rates
      });
  probes.watch(home->membership());
  api.planner = planner.get();
  server = TRY(serve::Server::start(*loop, *node, std::move(served), std::move(api)));
  TRY(print(std::format("http://{}\n", server->endpoint().to_string())));
  TRY(print(
      std::format("{}#{}\n", home->membership().endpoint().to_string(), home->identity().fingerprint().to_string())));
  loop->run();
  server.reset();
  if (out) return std::unexpected(*out);
  return {};
}

void ClusterFlags::add_to(CLI::App& command) {
  command.option_defaults()->group("Cluster");
  command.add_option("--listen", listen, "Address for other nodes, such as 127.0.0.1:8771; port 0 chooses one")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command
      .add_option("--advertise", advertise,
                  "Where the others reach this node; repeatable; by default every address of this machine")
      ->type_name("HOST:PORT");
  command.add_option("--name", node_name,
                     "What the first node of a new cluster is called; by default this machine's name");
  command.add_option("--cluster", cluster, "What a new cluster is called")->capture_default_str();
  command
      .add_option("--certificate-life", certificate_life_s,
                  "Seconds that certificates live which this node gives out as an admin; they renew themselves")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{30 * 24 * 3600}))
      ->capture_default_str();
}

void ApiFlags::add_to(CLI::App& command) {
  command.option_defaults()->group("API");
  command.add_option("--api", address, "Address for clients; port 0 chooses one")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command
      .add_option("--api-key-file", key_file,
                  "Keys that clients must send one of, one a line; needed to listen beyond this machine")
      ->type_name("FILE");
  command.add_option("--model-name", model_name, "How clients call the model; by default the file's name")
      ->type_name("NAME");
  command.add_option("--chat-template", template_name, "Which of the model's templates")
      ->capture_default_str()
      ->type_name("NAME");
  command.add_option("--parallel", parallel, "Answers that are written at once; more wait for their turn")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command.add_option("--queue", queue, "Answers that may wait; more are told to come back later")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  command
      .add_option("--default-predict", default_new_tokens,
                  "Tokens at most of an answer whose client does not say how many")
      ->check(CLI::Range(1U, 1U << 24))
      ->capture_default_str();
  command.add_option("--speculate", speculate, "Guess tokens and check several at once: auto, lookup, off")
      ->check(CLI::IsMember({"auto", "off", "lookup"}))
      ->capture_default_str();
}

}  // namespace

void add_up(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<UpFlags>();
  CLI::App* command = app.add_subcommand("up", "Serve a model over HTTP, and run this machine's node of its cluster");
  command->add_option("MODEL", flags->model, kModelHelp)->required();
  command->add_flag("-q,--quiet", flags->quiet, "Say nothing but the addresses and errors");
  flags->api.add_to(*command);
  flags->cluster.add_to(*command);
  flags->plan.add_to(*command);
  flags->device.context_tokens = kDefaultContextTokens;
  flags->device.add_to(*command);
  flags->link.add_to(*command);
  command
      ->add_option("--no-measure", flags->profile,
                   "Do not measure how fast this machine is with the model, and take the rates of this profile of "
                   "'baton plan --list'")
      ->group("Cluster")
      ->type_name("PROFILE");
  command->footer(
      "Prints the API's address, then the node's as host:port#fingerprint. The first 'baton up' with a data folder "
      "begins a\n"
      "cluster; 'baton token' on this machine and 'baton join' on another let that one in, where 'baton up' then runs "
      "a node,\n"
      "too. On SIGINT or SIGTERM it ends every answer, tells the others that it goes, and ends with status 0.\n\n"
      "Examples:\n"
      "  baton up model.gguf\n"
      "  baton up model.gguf --api 0.0.0.0:8770 --api-key-file keys.txt\n"
      "  baton up model.gguf --prefill-on spark   # a node of this machine's cluster, by its name");
  command->callback([&chosen, flags] { chosen = [flags] { return up(*flags); }; });
}

}  // namespace baton::cli
