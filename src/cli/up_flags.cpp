#include "cli/up_flags.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <format>
#include <future>
#include <memory>
#include <set>

#include "cli/model_source.h"
#include "engine/memory_need.h"
#include "node/device_rates.h"
#include "serve/api_keys.h"

namespace baton::cli {

namespace {

constexpr std::uint32_t kDefaultContextTokens = 16384;
constexpr std::string_view kRatesFile = "rates.json";

}  // namespace

Result<std::vector<ModelFlags::Offer>> ModelFlags::open(const LinkFlags& link) const {
  if (!model_name.empty() && paths.size() > 1) {
    return fail(ErrorCode::kInvalidArgument, "--model-name names one model, and several are given");
  }
  std::vector<Offer> offers;
  for (const std::string& path : paths) {
    const ModelFile found = TRY(obtain_model(path, link));
    Offer offered = TRY(offer(found.path, model_name.empty() ? found.name : model_name));
    const auto name_of = [](const Offer& other) { return other.known.name; };
    if (std::ranges::contains(offers, offered.known.name, name_of)) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("two models are called '{}': clients could not tell them apart", offered.known.name),
                  path);
    }
    // The first is what this node is there for, unless it is told otherwise.
    if (offers.empty() && !offered.known.keep_alive) offered.known.keep_alive = node::kForever;
    offers.push_back(std::move(offered));
  }
  return offers;
}

Result<ModelFlags::Offer> ModelFlags::offer(const std::filesystem::path& path, const std::string& name) const {
  std::optional<Duration> kept;
  if (!keep_alive.empty()) kept = TRY(node::parse_keep_alive(keep_alive));
  auto file = TRY(engine::Model::open(path));
  auto served = TRY(serve::ServedModel::create(file, name, template_name));
  const std::string id = served->id();
  return Offer{.known = {.name = id, .file = std::move(file), .keep_alive = kept}, .served = std::move(served)};
}

Result<std::shared_ptr<node::KeptFolder>> ModelFlags::kept_folder(net::EventLoop& loop,
                                                                  const std::filesystem::path& folder) const {
  if (!kept_on_disk_bytes) return nullptr;
  const std::filesystem::path path = node::KeptFolder::path_in(folder);
  if (*kept_on_disk_bytes == 0) {
    TRY(node::KeptFolder::remove(path));
    return nullptr;
  }
  return node::KeptFolder::open(path, *kept_on_disk_bytes, [&loop](net::Task task) { loop.post(std::move(task)); });
}

Result<cluster::MembershipOptions> UpClusterFlags::membership_options(const LinkFlags& link) const {
  cluster::MembershipOptions options;
  options.listen = TRY(in_flag("--listen", net::Endpoint::parse_listen(listen)));
  for (const std::string& text : advertise) {
    options.advertise.push_back(TRY(in_flag("--advertise", parse_advertised(text))));
  }
  options.emulate_link = TRY(link.link_emulation());
  options.certificate_life = std::chrono::seconds(certificate_life_s);
  return options;
}

cluster::NewCluster UpClusterFlags::new_cluster() const {
  return {.name = cluster, .node_name = node_name.empty() ? machine_name() : node_name};
}

Result<serve::ServerOptions> ApiFlags::server_options() const {
  serve::ServerOptions options;
  options.listen = TRY(in_flag("--api", net::Endpoint::parse_listen(address)));
  if (ollama_port != 0) options.listen_too.push_back({options.listen.host, ollama_port});
  for (const std::string& origin : origins) {
    const bool has_scheme = origin.starts_with("http://") || origin.starts_with("https://");
    if (!has_scheme || origin.find('/', origin.find("//") + 2) != std::string::npos) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("'{}' is no origin: write it as browsers do, such as https://chat.example:8443", origin));
    }
  }
  options.origins = origins;
  if (!key_file.empty()) options.api_keys = TRY(serve::read_api_keys(key_file));
  options.generator.running = parallel;
  options.generator.waiting = queue;
  options.default_new_tokens = default_new_tokens;
  options.changes = models_by_every_key ? serve::ModelChanges::kByEveryKey : serve::ModelChanges::kFromHere;
  options.version = BATON_VERSION;
  return options;
}

Result<node::RequestOptions> UpFlags::request_options(plan::Plan by_plan) const {
  node::RequestOptions request;
  request.plan = std::move(by_plan);
  request.chunk_tokens = device.chunk_tokens;
  request.codec = TRY(link.codec_type());
  request.hidden = TRY(link.hidden_type());
  request.speculation = TRY(guessing.speculation());
  request.determinism = api.deterministic ? handoff::Determinism::kDeterministic : handoff::Determinism::kFast;
  request.label = "api";
  return request;
}

Result<node::PoolOptions> UpFlags::pool_options(const std::filesystem::path& folder) const {
  node::PoolOptions options;
  options.engine = TRY(device.engine_options());
  options.engine.sequences = std::max(options.engine.sequences, static_cast<std::uint32_t>(api.parallel));
  if (!(guessing.draft.empty() && guessing.draft_on.empty()) && models.paths.size() > 1) {
    return fail(ErrorCode::kInvalidArgument, "a draft model guesses for one model, and several are given");
  }
  if (!guessing.draft.empty()) {
    options.draft = [flags = guessing](const engine::Engine& checker) -> Result<std::unique_ptr<engine::Engine>> {
      return flags.load_draft(TRY(flags.open_draft(checker.model())), checker);
    };
  }
  if (models.memory_bytes != 0) options.memory_bytes = models.memory_bytes;
  // Of the machine that the executor computes on, where nobody else uses it yet.
  const auto measured_now = std::make_shared<std::set<std::string>>();  // models; by one thread at a time
  options.measure = [profile = cluster.profile, anew = cluster.measure, measured_now, file = folder / kRatesFile](
                        engine::Executor& executor, const Sha256& digest) -> Result<node::DeviceRates> {
    if (!profile.empty()) {
      const engine::Engine& engine = executor.engine();
      return node::profile_rates(engine.shape(), profile, engine::kv_bytes_per_value(engine.options().cache_type));
    }
    // Once while this runs: a model that is loaded again is as fast as before.
    const bool again = anew && measured_now->insert(digest.hex()).second;
    const auto measure = again ? node::Measure::kAnew : node::Measure::kOnce;
    std::promise<Result<node::DeviceRates>> measured;
    TRY(executor.submit([&](engine::Engine& engine, const std::stop_token&) {
      measured.set_value(node::remembered_rates(engine, digest, file, measure));
    }));
    return measured.get_future().get();
  };
  return options;
}

void ModelFlags::add_to(CLI::App& command) {
  command
      .add_option(
          "MODEL", paths,
          "GGUF files, or names such as qwen3:8b (see 'baton pull'); the first is loaded at once, the others when they "
          "are asked for")
      ->required();
  command.option_defaults()->group("Models");
  command.add_option("--model-name", model_name, "How clients call the model; by default the file's name")
      ->type_name("NAME");
  command.add_option("--chat-template", template_name, "Which of the models' templates")
      ->capture_default_str()
      ->type_name("NAME");
  command
      .add_option("--keep-alive", keep_alive,
                  "How long a model stays loaded that nobody uses: 300, 5m, 1h30m, 0 (not at all), -1 (for ever); by "
                  "default 5m, and the first model for ever")
      ->type_name("TIME");
  command
      .add_option("--memory", memory_bytes,
                  "What the loaded models may take together, such as 24GB; by default what the device has free")
      ->transform(CLI::AsSizeValue(true))
      ->type_name("SIZE");
  command
      .add_option(
          "--keep-on-disk", kept_on_disk_bytes,
          "Write what was read and answered to disk when memory is needed for other texts, and at the end: "
          "conversations go on from there, also after a restart. At most so much, such as 20GB; 0 removes what is "
          "there. Texts can be told from these files: they are as private as the conversations themselves")
      ->transform(CLI::AsSizeValue(true))
      ->type_name("SIZE");
}

void UpClusterFlags::add_to(CLI::App& command) {
  command.option_defaults()->group("Cluster");
  command.add_option("--listen", listen, "Address for other nodes, such as 127.0.0.1:8771; port 0 chooses one")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command
      .add_option("--advertise", advertise,
                  "Where the others reach this node, by default at the port that it listens on; repeatable; by default "
                  "every address of this machine")
      ->type_name("HOST[:PORT]");
  command.add_option("--name", node_name,
                     "What the first node of a new cluster is called; by default this machine's name");
  command.add_option("--cluster", cluster, "What a new cluster is called")->capture_default_str();
  command.add_flag("--no-discovery", no_discovery,
                   "Do not announce this node on the local network, nor look for the others there");
  command
      .add_option("--certificate-life", certificate_life_s,
                  "Seconds that certificates live which this node gives out as an admin; they renew themselves")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{30 * 24 * 3600}))
      ->capture_default_str();
  auto* again = command.add_flag("--measure", measure,
                                 "Measure anew how fast this machine is with its models, also where that is known: as "
                                 "it was busy then, or is another now");
  command
      .add_option("--no-measure", profile,
                  "Do not measure how fast this machine is with a model, and take the rates of this profile of "
                  "'baton plan --list'")
      ->type_name("PROFILE")
      ->excludes(again);
}

void ApiFlags::add_to(CLI::App& command) {
  command.option_defaults()->group("API");
  command.add_option("--api", address, "Address for clients; port 0 chooses one")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command
      .add_option("--api-key-file", key_file,
                  "Keys that clients must send one of, one a line, beside those of 'baton key'")
      ->type_name("FILE");
  command
      .add_option("--ollama-port", ollama_port,
                  "Answer at this port of the same address, too: Ollama's clients look at 11434")
      ->check(CLI::Range(1, 65535))
      ->type_name("PORT");
  command
      .add_option("--allow-origin", origins,
                  "Answer web pages of this origin, such as https://chat.example; repeatable")
      ->type_name("ORIGIN");
  command.add_flag("--api-models", models_by_every_key,
                   "Let whoever has a key pull, copy and delete models and cancel requests, also where other machines "
                   "reach the API");
  command
      .add_option("--parallel", parallel, "Answers of each model that are written at once; more wait for their turn")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command.add_option("--queue", queue, "Answers of each model that may wait; more are told to come back later")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  command
      .add_option("--default-predict", default_new_tokens,
                  "Tokens at most of an answer whose client does not say how many")
      ->check(CLI::Range(1U, 1U << 24))
      ->capture_default_str();
  command.add_flag(
      "--deterministic", deterministic,
      "Read a prompt in the same chunks beside others' answers and after a node's failure: slower, and the same text");
}

void UpFlags::add_to(CLI::App& command) {
  command.add_flag("-q,--quiet", quiet, "Say nothing but the addresses and errors");
  models.add_to(command);
  api.add_to(command);
  guessing.add_to(command);
  cluster.add_to(command);
  plan.add_to(command);
  device.context_tokens = kDefaultContextTokens;
  device.add_to(command);
  link.add_to(command);
}

}  // namespace baton::cli
