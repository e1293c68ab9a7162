#include <CLI/CLI.hpp>

#include <format>
#include <memory>

#include "base/log.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/plan_flags.h"
#include "cli/signals.h"
#include "cli/text_output.h"
#include "node/node.h"
#include "serve/server.h"

namespace baton::cli {

namespace {

struct UpFlags {
  std::string model;
  std::string api = "127.0.0.1:8770";
  std::string name;
  std::string key_file;
  std::string template_name = "default";
  std::string speculate = "auto";
  std::size_t parallel = 8;
  std::size_t queue = 64;
  std::uint32_t default_new_tokens = 2048;
  bool quiet = false;
  PlanFlags plan;
  DeviceFlags device;
  LinkFlags link;
};

constexpr std::uint32_t kDefaultContextTokens = 16384;

// How long the end waits for peers to hear of it.
constexpr auto kGoodbyeTimeout = std::chrono::seconds(2);

Result<serve::ServerOptions> server_options(const UpFlags& flags, plan::Plan plan) {
  serve::ServerOptions options;
  options.listen = TRY(net::Endpoint::parse_listen(flags.api));
  if (!flags.key_file.empty()) options.api_keys = TRY(serve::read_api_keys(flags.key_file));
  options.generator.running = flags.parallel;
  options.generator.waiting = flags.queue;
  options.default_new_tokens = flags.default_new_tokens;
  options.request.plan = std::move(plan);
  options.request.chunk_tokens = flags.device.chunk_tokens;
  options.request.codec = TRY(flags.link.codec_type());
  options.request.hidden = TRY(flags.link.hidden_type());
  options.request.speculation = TRY(node::parse_speculation(flags.speculate));
  options.request.label = "api";
  options.version = BATON_VERSION;
  return options;
}

Result<void> up(const UpFlags& flags) {
  log::set_level(flags.quiet ? log::Level::kError : log::Level::kInfo);
  const net::Identity identity = TRY(flags.link.identity());
  const auto model = TRY(engine::Model::open(flags.model));
  auto served = TRY(serve::ServedModel::create(model, flags.name, flags.template_name));
  auto plan = TRY(flags.plan.plan_for(model->shape().layer_count, identity.fingerprint().to_string()));
  for (const std::string& line : peer_tasks(plan)) log::info("{}", line);
  const bool alone = plan.nodes.size() == 1;
  serve::ServerOptions options = TRY(server_options(flags, std::move(plan)));
  engine::EngineOptions engine_options = TRY(flags.device.engine_options());
  engine_options.sequences = static_cast<std::uint32_t>(flags.parallel);
  const Sha256 digest = alone ? Sha256{} : TRY(model->digest());

  const auto loop = TRY(net::EventLoop::create());
  std::unique_ptr<node::Node> node;
  std::unique_ptr<serve::Server> server;
  // Posted, so that a signal during the loading of the model is kept until the loop runs.
  const SignalWatch signals([&] {
    loop->post([&] {
      log::info("shutting down");
      server.reset();
      node->shut_down(kGoodbyeTimeout, [&] { loop->stop(); });
    });
  });
  node::NodeOptions node_options;
  node_options.emulate_link = TRY(flags.link.link_emulation());
  node = TRY(
      node::Node::create(*loop, identity, TRY(start_executor(model, engine_options)), digest, std::move(node_options)));
  server = TRY(serve::Server::start(*loop, *node, std::move(served), std::move(options)));
  TRY(print(std::format("http://{}\n", server->endpoint().to_string())));
  loop->run();
  server.reset();
  return {};
}

}  // namespace

void add_up(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<UpFlags>();
  CLI::App* command = app.add_subcommand("up", "Serve a model over HTTP, as OpenAI's API does");
  command->add_option("MODEL", flags->model, "GGUF file")->required();
  command->add_flag("-q,--quiet", flags->quiet, "Say nothing but the address and errors");
  command->option_defaults()->group("API");
  command->add_option("--api", flags->api, "Address to listen on; port 0 chooses one")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command
      ->add_option("--api-key-file", flags->key_file,
                   "Keys that clients must send one of, one a line; needed to listen beyond this machine")
      ->type_name("FILE");
  command->add_option("--name", flags->name, "How clients call the model; by default the file's name")
      ->type_name("NAME");
  command->add_option("--chat-template", flags->template_name, "Which of the model's templates")
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--parallel", flags->parallel, "Answers that are written at once; more wait for their turn")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command->add_option("--queue", flags->queue, "Answers that may wait; more are told to come back later")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  command
      ->add_option("--default-predict", flags->default_new_tokens,
                   "Tokens at most of an answer whose client does not say how many")
      ->check(CLI::Range(1U, 1U << 24))
      ->capture_default_str();
  command->add_option("--speculate", flags->speculate, "Guess tokens and check several at once: auto, lookup, off")
      ->check(CLI::IsMember({"auto", "off", "lookup"}))
      ->capture_default_str();
  flags->plan.add_to(*command);
  flags->device.context_tokens = kDefaultContextTokens;
  flags->device.add_to(*command);
  flags->link.add_to(*command);
  command->footer(
      "Prints its address. On SIGINT or SIGTERM it ends every answer and itself with status 0.\n\n"
      "Examples:\n"
      "  baton up model.gguf\n"
      "  baton up model.gguf --api 0.0.0.0:8770 --api-key-file keys.txt\n"
      "  baton up model.gguf --prefill-on 192.0.2.7:8771#3f1c...");
  command->callback([&chosen, flags] { chosen = [flags] { return up(*flags); }; });
}

}  // namespace baton::cli
