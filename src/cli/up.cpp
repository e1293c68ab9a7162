#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <format>
#include <memory>
#include <optional>

#include "base/log.h"
#include "cli/api_record.h"
#include "cli/cluster_peers.h"
#include "cli/cluster_planner.h"
#include "cli/command.h"
#include "cli/given_models.h"
#include "cli/model_intake.h"
#include "cli/model_source.h"
#include "cli/own_state.h"
#include "cli/signals.h"
#include "cli/text_output.h"
#include "cli/up_flags.h"
#include "cluster/home.h"
#include "cluster/link_probes.h"
#include "engine/memory_need.h"
#include "net/listen_check.h"
#include "node/kept_folder.h"
#include "node/node.h"
#include "serve/api_keys.h"
#include "serve/server.h"

namespace baton::cli {

namespace {

// How long the end waits for peers to hear of it.
constexpr auto kUpGoodbyeTimeout = std::chrono::seconds(2);

Result<plan::RequestPlanner::Options> planner_options(const engine::EngineOptions& engine, const LinkFlags& link) {
  const auto codec = plan::find_codec(link.codec);
  if (!codec) return fail(ErrorCode::kInvalidArgument, std::format("'{}' is no codec", link.codec));
  return plan::RequestPlanner::Options{.codec = *codec,
                                       .chunk_tokens = engine.max_chunk_tokens,
                                       .kv_bytes_per_value = engine::kv_bytes_per_value(engine.cache_type)};
}

// Those of the nodes that are named by their addresses, and that the cluster need not know.
Result<std::vector<net::Fingerprint>> nodes_by_hand(std::span<const plan::NodeRef> named, const ClusterPeers& peers) {
  std::vector<net::Fingerprint> nodes;
  for (const plan::NodeRef& node : named) {
    const bool by_hand = !node.fingerprint.empty() &&
                         !std::ranges::contains(peers.nodes(), node.fingerprint, &plan::NodeRef::fingerprint);
    if (by_hand) nodes.push_back(TRY(net::Fingerprint::parse(node.fingerprint)));
  }
  return nodes;
}

// What would end it all the same later, when models were pulled and perhaps a cluster begun.
Result<void> check_addresses(const serve::ServerOptions& api, const net::Endpoint& listen) {
  TRY(serve::Server::check(api));
  std::vector<net::Endpoint> endpoints = {listen, api.listen};
  endpoints.insert(endpoints.end(), api.listen_too.begin(), api.listen_too.end());
  return net::check_listening(endpoints);
}

Result<void> up(const UpFlags& flags) {
  log::set_level(flags.quiet ? log::Level::kError : log::Level::kInfo);
  const auto loop = TRY(net::EventLoop::create());
  const std::filesystem::path folder = TRY(flags.link.folder());
  const auto home = TRY(cluster::Home::open(*loop, folder));
  // Before any model is pulled, which may take long: what is wrong with the flags.
  serve::ServerOptions api = TRY(flags.api.server_options());
  api.key_book = serve::key_book_path(folder);
  cluster::MembershipOptions membership = TRY(flags.cluster.membership_options(flags.link));
  TRY(check_addresses(api, membership.listen));
  node::PoolOptions pool_options = TRY(flags.pool_options(folder));
  std::vector<ModelFlags::Offer> offers = TRY(flags.models.open(flags.link));
  ClusterPeers peers(home->identity().fingerprint());
  const bool drafts_elsewhere = !flags.guessing.draft_on.empty();
  if (flags.plan.wants_others() || drafts_elsewhere)
    peers = TRY(ClusterPeers::read(TRY(cluster::Folder::open(folder))));
  const auto models = std::make_shared<const store::Store>(TRY(open_store(flags.link)));
  std::vector<serve::ServerModel> served;
  std::vector<node::KnownModel> known;
  const auto files = std::make_shared<ServedFiles>();
  std::optional<plan::NodeRef> draft_on;
  if (drafts_elsewhere) {
    draft_on = TRY(flags.plan.peer_for("--draft-on", flags.guessing.draft_on, peers.self(), peers.nodes()));
  }
  for (ModelFlags::Offer& offer : offers) {
    const std::uint32_t layers = offer.known.file->shape().layer_count;
    auto plan = TRY(flags.plan.plan_for(layers, peers.self(), peers.nodes()));
    for (const std::string& line : peer_tasks(plan)) log::info("{}: {}", offer.known.name, line);
    // The same for every model: the flags name them.
    std::vector<plan::NodeRef> named = plan.nodes;
    if (draft_on) named.push_back(*draft_on);
    membership.linked_by_hand = TRY(nodes_by_hand(named, peers));
    served.push_back({ .served = std::move(offer.served), .request = TRY(flags.request_options(std::move(plan))) });
    served.back().request.draft_on = draft_on;
    files->add({offer.known.name, offer.known.file});
    known.push_back(std::move(offer.known));
  }

  UpModelIntake intake(flags, peers, files);
  api.management = {.store = models,
                    .pull_options = [&flags] { return pull_options(flags.link, MemoryOf::kThisMachine); },
                    .intake = &intake,
                    .in_use = {flags.guessing.draft},
                    .kept_texts = node::KeptFolder::path_in(folder)};

  std::unique_ptr<node::Node> node;
  std::unique_ptr<node::ModelPool> pool;
  std::unique_ptr<ClusterPlanner> planner;
  std::unique_ptr<serve::Server> server;
  std::optional<Error> out;
  const auto shut_down = [&] {
    server.reset();
    node->shut_down(kUpGoodbyeTimeout, [&] { home->membership().shut_down(kUpGoodbyeTimeout, [&] { loop->stop(); }); });
  };
  // Until this node is in its cluster nothing is half done that others would notice, and hashing and loading the first
  // model, which may take minutes, stop at no request.
  std::atomic<bool> alone = true;
  // Posted, so that a signal before the loop runs is kept until it does.
  const SignalWatch signals([&] {
    if (alone) end_interrupted();
    loop->post([&] {
      log::info("shutting down");
      shut_down();
    });
  });
  // Its threads must leave signals to the watch, too.
  const auto kept_folder = TRY(flags.models.kept_folder(*loop, folder));
  const auto device = std::make_shared<engine::DeviceThread>();
  node::FreshModel first = TRY(node::ModelPool::load(known.front().file, pool_options, device));
  OwnState own_state;
  cluster::LinkProbes probes(*loop, [&] { return node && node->transfers() == 0 && planner && planner->is_idle(); });
  membership.on_work = [&](auto connection) { node->adopt(std::move(connection)); };
  membership.on_probe = [&](auto connection) { probes.adopt(std::move(connection)); };
  const auto is_busy = [&] { return node && (node->transfers() > 0 || (planner && !planner->is_idle())); };
  store::ModelGiver giver(*loop, given_models(*models, files), is_busy);
  membership.on_fetch = [&](auto connection) { giver.adopt(std::move(connection)); };
  membership.on_cut_off = [&](const net::Fingerprint& peer) {
    giver.cut_off(peer);
    node->cut_off(peer);
  };
  membership.on_out = [&](const Error& error) {
    out = error;
    shut_down();
  };
  membership.state = [&] { return planner ? own_state.now(*planner) : cluster::NodeState(); };
  alone = false;
  TRY(home->enter(std::move(membership), flags.cluster.new_cluster(), flags.cluster.local_network()));
  node::NodeOptions node_options;
  node_options.kept_folder = kept_folder;
  node_options.transport = &home->membership().work_transport();
  node_options.is_trusted = [&](const net::Fingerprint& peer) { return home->membership().may_work(peer); };
  node_options.why_not_loaded = [&](const Sha256& digest) {
    return pool ? pool->why_not_loaded(digest) : std::optional<Error>();
  };
  node = TRY(node::Node::create(*loop, home->identity(), std::move(node_options)));
  pool = std::make_unique<node::ModelPool>(*loop, *node, device, std::move(pool_options), std::move(known));
  TRY(pool->take_over(*pool->models().front(), std::move(first)));
  planner = std::make_unique<ClusterPlanner>(*node, home->membership(), probes,
                                             flags.plan.wants_others() ? PlanBy::kFlags : PlanBy::kRequest);
  for (std::size_t index = 0; index < served.size(); ++index) {
    node::PooledModel& model = *pool->models()[index];
    served[index].source = &model;
    served[index].planner = &planner->add(model, TRY(planner_options(model.engine_options(), flags.link)));
  }
  intake.lead_to(*pool, *planner, TRY(planner_options(pool->models().front()->engine_options(), flags.link)));
  probes.watch(home->membership());
  api.cluster = planner.get();
  server = TRY(serve::Server::start(*loop, std::move(served), std::move(api)));
  const ApiRecord record = TRY(ApiRecord::write(folder, server->endpoint()));
  TRY(print(std::format("http://{}\n", server->endpoint().to_string())));
  TRY(print(
      std::format("{}#{}\n", home->membership().endpoint().to_string(), home->identity().fingerprint().to_string())));
  loop->run();
  server.reset();
  if (out) return std::unexpected(*out);
  return {};
}

}  // namespace

void add_up(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<UpFlags>();
  CLI::App* command = app.add_subcommand("up", "Serve models over HTTP, and run this machine's node of its cluster");
  flags->add_to(*command);
  command->footer(
      "Prints the API's address, then the node's as host:port#fingerprint. The first 'baton up' with a data folder "
      "begins a\n"
      "cluster; 'baton token' on this machine and 'baton join' on another let that one in, where 'baton up' then runs "
      "a node,\n"
      "too. On SIGINT or SIGTERM it ends every answer, tells the others that it goes, and ends with status 0; while "
      "its "
      "first\n"
      "model is still being read, at once and with status 130.\n\n"
      "Examples:\n"
      "  baton up model.gguf\n"
      "  baton up large.gguf small.gguf --keep-alive 10m --memory 24GB\n"
      "  baton key create laptop && baton up model.gguf --api 0.0.0.0:8770\n"
      "  baton up model.gguf --prefill-on spark   # a node of this machine's cluster, by its name\n"
      "  baton up large.gguf --draft small.gguf   # guesses, for itself and for others' --draft-on");
  command->callback([&chosen, flags] { chosen = [flags] { return up(*flags); }; });
}

}  // namespace baton::cli
