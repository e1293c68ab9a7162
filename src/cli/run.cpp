#include <unistd.h>
#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <format>
#include <memory>
#include <optional>

#include "base/log.h"
#include "cli/api_answerer.h"
#include "cli/api_record.h"
#include "cli/chat.h"
#include "cli/cluster_peers.h"
#include "cli/command.h"
#include "cli/model_source.h"
#include "cli/options.h"
#include "cli/plan_flags.h"
#include "cli/run_planner.h"
#include "cli/run_printer.h"
#include "cli/run_result.h"
#include "cli/signals.h"
#include "cli/speculation_flags.h"
#include "cli/trained_context.h"
#include "engine/memory_need.h"
#include "model/vocabulary.h"
#include "node/node.h"
#include "serve/json.h"
#include "text/tokenizer.h"

namespace baton::cli {

namespace {

// How a node that runs already is asked.
struct RunningNodeFlags {
  std::string api;  // empty: as the data folder says
  std::string key;
  std::string model;  // empty: the node's first
};

struct RunFlags {
  std::string model;  // empty: a node that runs is asked
  RunningNodeFlags node;
  std::optional<std::string> prompt;
  std::optional<std::string> file;
  std::optional<std::string> tokens;
  std::uint32_t max_new_tokens = 128;
  engine::SamplerOptions sampler;
  PlanFlags plan;
  SpeculationFlags speculation;
  bool deterministic = false;
  bool ignore_eos = false;
  OutputFormat format = OutputFormat::kText;
  int verbose = 0;  // how often it was asked for
  DeviceFlags device;
  LinkFlags link;
  ChatFlags chat;

  bool has_prompt() const { return prompt || file || tokens; }
  // Without a prompt, on a terminal, it is a conversation.
  bool is_dialogue() const { return !has_prompt() && !chat.raw && isatty(STDIN_FILENO) != 0; }
};

// How long a dialogue may grow where --ctx does not say.
std::uint32_t dialogue_tokens(const engine::Model& model) {
  constexpr std::uint32_t kMost = 4096;
  return std::min(kMost, model.shape().trained_context_tokens);
}

// How long a finished request waits for its peers to hear that they are free again.
constexpr auto kRunGoodbyeTimeout = std::chrono::seconds(1);

// The layers that the plan gives this node; the first alone where it gives none, as an engine needs some.
LayerRange own_layers(const plan::Plan& plan) {
  LayerRange range{UINT32_MAX, 0};
  for (const plan::Stages* stages : {&plan.prefill, &plan.decode}) {
    if (const plan::Stage* stage = plan::stage_of(*stages, plan::kCoordinator)) {
      range = {std::min(range.begin, stage->layers.begin), std::max(range.end, stage->layers.end)};
    }
  }
  return range.empty() ? LayerRange{0, 1} : range;
}

// What is piped in, where there is something: a service's standard input may be empty.
Result<std::string> piped_prompt() {
  std::string text;
  if (isatty(STDIN_FILENO) == 0) text = TRY(read_text("-"));
  if (!text.empty()) return text;
  return fail(ErrorCode::kInvalidArgument,
              "there is no prompt: give one with -p TEXT, -f FILE, a pipe or --tokens 1,2,3, or chat on a terminal");
}

// -p or -f, or what is piped in.
Result<std::string> prompt_text(const RunFlags& flags) {
  if (!flags.prompt && !flags.file) return piped_prompt();
  std::string text = flags.file ? TRY(read_text(*flags.file)) : *flags.prompt;
  if (text.empty()) {
    return fail(ErrorCode::kInvalidArgument, "the prompt is empty: there is nothing to go on from",
                flags.file.value_or("-p"));
  }
  return text;
}

// Of the options that were given, those that the answers of a running node cannot keep to.
Result<void> refuse_what_needs_a_file(const CLI::App& command) {
  static constexpr std::array<std::string_view, 21> kForAnyAnswer = {"prompt",
                                                                     "file",
                                                                     "tokens",
                                                                     "predict",
                                                                     "temp",
                                                                     "seed",
                                                                     "top-k",
                                                                     "top-p",
                                                                     "min-p",
                                                                     "chat",
                                                                     "presence-penalty",
                                                                     "frequency-penalty",
                                                                     "raw",
                                                                     "system",
                                                                     "set",
                                                                     "data",
                                                                     "model",
                                                                     "api",
                                                                     "key",
                                                                     "verbose",
                                                                     "help"};
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_single_name();
    if (option->count() == 0 || std::ranges::contains(kForAnyAnswer, name)) continue;
    return fail(ErrorCode::kInvalidArgument,
                std::format("--{} needs a model file: a node that runs answers in its own way", name));
  }
  return {};
}

// A dialogue answers Ctrl-C in its own way. Until its first question is awaited, Ctrl-C ends the program, which may be
// loading weights for minutes, or wait for a node that says nothing.
void watch_dialogue_start(std::optional<SignalWatch>& starting) {
  block_dialogue_signals();
  starting.emplace(end_interrupted);
}

Result<void> run_by_node(const RunFlags& flags, const CLI::App& command) {
  TRY(refuse_what_needs_a_file(command));
  ApiAnswererOptions options{.key = flags.node.key,
                             .model = flags.node.model,
                             .system = flags.chat.system,
                             .variables = flags.chat.variables,
                             .max_new_tokens = flags.max_new_tokens,
                             .sampler = flags.sampler};
  const std::filesystem::path folder = TRY(flags.link.folder());
  options.api =
      TRY(flags.node.api.empty() ? ApiRecord::read(folder) : in_flag("--api", net::Endpoint::parse(flags.node.api)));
  std::optional<SignalWatch> starting;
  if (flags.is_dialogue()) watch_dialogue_start(starting);
  auto answerer = ApiAnswerer::create(std::move(options));
  if (!answerer) {
    Error error = answerer.error();
    if (error.code == ErrorCode::kUnavailable && flags.node.api.empty()) {
      error.message += std::format(
          "; {} says that a node runs there, but it may have been killed: start it with "
          "'baton up MODEL', or name a model file",
          folder.string());
    }
    return std::unexpected(std::move(error));
  }
  if (flags.is_dialogue()) {
    remark(std::format("{}, as the node that runs here has it\n", (*answerer)->model()));
    starting.reset();
    return run_dialogue(**answerer);
  }
  std::string prompt;
  if (flags.tokens) {
    for (const Token token : TRY(parse_tokens(*flags.tokens)))
      prompt += std::format("{}{}", prompt.empty() ? "" : ",", token);
    TRY((*answerer)->complete("[" + prompt + "]"));
    return print("\n");
  }
  prompt = TRY(prompt_text(flags));
  if (flags.chat.wanted()) {
    TRY((*answerer)->answer(std::move(prompt)));
  } else {
    TRY((*answerer)->complete(serve::json_string(prompt)));
  }
  return print("\n");
}

Result<std::vector<Token>> read_prompt(const RunFlags& flags, const model::GgufFile& file,
                                       const std::optional<text::Tokenizer>& tokenizer) {
  if (flags.is_dialogue()) return std::vector<Token>();
  if (flags.tokens) return parse_tokens(*flags.tokens);
  const std::string text = TRY(prompt_text(flags));
  if (!tokenizer) return fail(ErrorCode::kUnsupported, "this model has no tokenizer: give the prompt with --tokens");
  if (flags.chat.wanted()) {
    ChatPrompter prompter = TRY(ChatPrompter::create(file, *tokenizer, flags.chat));
    prompter.add_user(text);
    return prompter.prompt();
  }
  std::vector<Token> tokens = tokenizer->begin_sequence();
  const std::vector<Token> encoded = TRY(tokenizer->encode(text, text::SpecialTokens::kParse));
  tokens.insert(tokens.end(), encoded.begin(), encoded.end());
  return tokens;
}

// As the flags say; where they say nothing, as the planner says.
Result<RunPlan> plan_of(const RunFlags& flags, const engine::Model& model, const ClusterPeers& peers,
                        const node::RequestOptions& request) {
  plan::Plan asked = TRY(flags.plan.plan_for(model.shape().layer_count, peers.self(), peers.nodes()));
  // A conversation keeps its KV on this machine, and reads only what is new.
  if (peers.nodes().empty() || flags.is_dialogue()) return RunPlan{std::move(asked), {.by = "default"}};
  const engine::CacheType cache_type = TRY(engine::parse_cache_type(flags.device.cache_type));
  RunQuestion question{.shape = model.shape(), .model_digest = {}, .wish = {}, .options = {}};
  if (!peers.reports().empty()) {
    const Sha256 digest = TRY(model.digest());
    question.model_digest = digest.hex();
  }
  question.wish = {.prompt_tokens = static_cast<std::uint32_t>(request.prompt.size()),
                   .most_output_tokens = flags.max_new_tokens};
  if (flags.ignore_eos) question.wish.output_tokens = flags.max_new_tokens;
  // What is no codec is refused where the request is made up.
  question.options = {.codec = plan::find_codec(flags.link.codec).value_or(plan::WireCodec::kF16),
                      .chunk_tokens = flags.device.chunk_tokens,
                      .kv_bytes_per_value = engine::kv_bytes_per_value(cache_type)};
  if (flags.plan.wants_others()) return plan_by_flags(std::move(asked), peers, question);
  return plan_in_cluster(peers, question);
}

// Before minutes are spent on a text that the model was not made for. In a dialogue the room that it may fill counts.
Result<void> warn_of_context(const RunFlags& flags, const model::ModelShape& shape, std::size_t prompt_tokens) {
  const std::uint32_t asked = flags.device.context_tokens;
  const std::uint32_t new_tokens = flags.is_dialogue() ? asked : flags.max_new_tokens;
  const std::string warning = TRY(context_warning(prompt_tokens, new_tokens, shape.trained_context_tokens,
                                                  asked == 0 ? ContextBy::kWork : ContextBy::kFlag));
  if (!warning.empty()) std::fprintf(stderr, "baton: %s\n", warning.c_str());
  return {};
}

std::string summary(const RunResult& result) {
  const node::RequestTimings& times = result.timings;
  return std::format(
      "{}{}: {} prompt tokens, first token after {:.3f} s, {} tokens, {:.1f} tokens/s, {:.3f} s in all{}{}",
      result.emulated ? "emulated, " : "", result.shape, result.prompt_tokens, times.first_token_s,
      result.tokens.size(), times.decode_s > 0 ? static_cast<double>(result.tokens.size() - 1) / times.decode_s : 0.0,
      times.total_s,
      result.planned.predicted_total_s > 0 ? std::format(" ({:.3f} s predicted)", result.planned.predicted_total_s)
                                           : "",
      result.emulation_valid ? "" : "; INVALID: this machine was too slow for the emulation");
}

Result<void> run(const RunFlags& flags) {
  if (flags.verbose > 0) log::set_level(flags.verbose == 1 ? log::Level::kInfo : log::Level::kDebug);
  const cluster::Folder folder = TRY(cluster::Folder::open(TRY(flags.link.folder())));
  const net::Identity& identity = folder.identity();
  const auto model = TRY(engine::Model::open(TRY(obtain_model(flags.model, flags.link)).path));
  const auto draft = TRY(flags.speculation.open_draft(*model));
  auto vocabulary = TRY(text::Vocabulary::create(TRY(model::read_vocabulary(model->file()))));
  std::optional<text::Tokenizer> tokenizer;
  if (vocabulary.kind() != text::TokenizerKind::kNone) tokenizer = TRY(text::Tokenizer::create(std::move(vocabulary)));

  node::RequestOptions request;
  request.prompt = TRY(read_prompt(flags, model->file(), tokenizer));
  request.max_new_tokens = flags.max_new_tokens;
  TRY(warn_of_context(flags, model->shape(), request.prompt.size()));
  auto read = ClusterPeers::read(folder);
  const bool drafts_elsewhere = !flags.speculation.draft_on.empty();
  if (!read && (flags.plan.wants_others() || drafts_elsewhere)) return std::unexpected(read.error());
  if (!read) log::warning("this machine works alone: {}", read.error().to_string());
  const ClusterPeers peers = std::move(read).value_or(ClusterPeers(identity.fingerprint()));
  RunPlan planned = TRY(plan_of(flags, *model, peers, request));
  request.plan = planned.plan;
  request.replan = planned.replan;
  if (drafts_elsewhere) {
    request.draft_on = TRY(flags.plan.peer_for("--draft-on", flags.speculation.draft_on, peers.self(), peers.nodes()));
  }
  for (const std::string& line : peer_tasks(request.plan)) log::info("{}", line);
  request.sampler = flags.sampler;
  if (tokenizer && !flags.ignore_eos) request.end_tokens = tokenizer->vocabulary().end_tokens();
  request.chunk_tokens = flags.device.chunk_tokens;
  request.codec = TRY(flags.link.codec_type());
  request.hidden = TRY(flags.link.hidden_type());
  request.speculation = TRY(flags.speculation.speculation());
  request.determinism = flags.deterministic ? handoff::Determinism::kDeterministic : handoff::Determinism::kFast;

  engine::EngineOptions options = TRY(flags.device.engine_options());
  const auto needed = static_cast<std::uint32_t>(request.prompt.size()) + request.max_new_tokens;
  if (options.context_tokens == 0)
    options.context_tokens = flags.is_dialogue() ? std::max(needed, dialogue_tokens(*model)) : needed;
  if (options.context_tokens < needed) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("{} prompt tokens and {} new ones do not fit into --ctx {}", request.prompt.size(),
                            request.max_new_tokens, options.context_tokens));
  }
  options.sequences = 1;
  options.layers = own_layers(request.plan);
  const bool alone = request.plan.nodes.size() == 1;
  // A short prompt is answered at once, even where weights are still being packed. Nodes that share a request must
  // compute alike, and so must two runs that are compared.
  if (alone && !flags.deterministic) options.while_packing = engine::WhilePacking::kComputeWithout;

  std::optional<ChatPrompter> dialogue;
  std::optional<SignalWatch> starting;
  if (flags.is_dialogue()) {
    if (!tokenizer) return fail(ErrorCode::kUnsupported, "this model has no tokenizer, so nobody can chat with it");
    dialogue = TRY(ChatPrompter::create(model->file(), *tokenizer, flags.chat));
    watch_dialogue_start(starting);
  }
  const auto loop = TRY(net::EventLoop::create());
  const auto make_node = [&](node::NodeOptions node_options) -> Result<std::unique_ptr<node::Node>> {
    // The digest is what peers compare; alone, nobody asks for it.
    const Sha256 digest = alone && !drafts_elsewhere ? Sha256{} : TRY(model->digest());
    auto executor = TRY(start_executor(model, options));
    auto guessing = TRY(flags.speculation.load_draft_for(request.plan, draft, executor->engine()));
    auto node = TRY(node::Node::create(*loop, identity, std::move(node_options)));
    node->add({.executor = std::move(executor), .digest = digest, .draft = std::move(guessing)});
    return node;
  };
  if (dialogue) {
    const auto node = TRY(make_node({}));
    LocalAnswerer answerer(*loop, *node->models().front(), *tokenizer, *std::move(dialogue), request);
    starting.reset();
    return run_dialogue(answerer);
  }
  std::shared_ptr<node::Request> running;
  const SignalWatch signals([&] {
    loop->post([&] {
      if (running) running->cancel();
    });
  });
  RunPrinter printer(tokenizer ? &tokenizer->vocabulary() : nullptr, flags.format);
  RunResult result;
  {
    node::NodeOptions node_options;
    const auto transport = TRY(peers.transport(*loop, identity, TRY(flags.link.link_emulation())));
    node_options.transport = transport.get();
    const auto node = TRY(make_node(std::move(node_options)));
    result.prompt_tokens = static_cast<std::uint32_t>(request.prompt.size());
    printer.when_done = [&] { node->when_quiet(kRunGoodbyeTimeout, [&] { loop->stop(); }); };
    // Nobody reads on, or the disk is full. Posted, as the request is in the middle of telling us a token.
    printer.when_output_failed = [&] {
      loop->post([&] {
        if (running) running->cancel();
      });
    };
    running = TRY(node->models().front()->submit(std::move(request), printer));
    loop->run();
    running.reset();
  }
  const node::RequestReport report = TRY(Result<node::RequestReport>(*printer.report()));
  result.text = printer.text();
  result.tokens = report.tokens;
  result.cached_tokens = report.cached_tokens;
  result.emulated = report.emulated || !flags.link.emulate_link.empty();
  result.plan = report.plan.to_string();
  result.shape = report.plan.shape();
  for (const node::Recovery& recovery : report.recoveries) result.failures.push_back(failure_result(recovery));
  result.recoveries = static_cast<std::uint32_t>(report.recoveries.size());
  if (!report.recoveries.empty()) result.salvaged_tokens = report.recoveries.back().salvaged_tokens;
  result.timings = report.timings;
  result.planned = std::move(planned.note);
  complete(result.planned, report.timings, report.tokens.size());
  result.transfer = report.transfer;
  result.transfer_from = report.transfer_from;
  for (const auto& [peer, sent] : report.transfer_from) {
    log::info("{} sent {} in {} slices over {} connection{}", peer, size_text(sent.payload_bytes), sent.slices,
              sent.connections, sent.connections == 1 ? "" : "s");
  }
  result.speculation = report.speculation;
  result.emulation_valid = report.emulation_valid();
  if (flags.format == OutputFormat::kJson) return print(glz::write_json(result).value_or("{}") + "\n");
  if (flags.verbose > 0) {
    log::info("{}", summary(result));
  } else {
    remark("\n" + summary(result) + "\n");
  }
  return {};
}

}  // namespace

void add_run(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand("run", "Continue a text with a model, or chat with it");
  command->add_option("MODEL", flags->model,
                      "GGUF file, or a name such as qwen3:8b (see 'baton pull'); without one, the node that 'baton up' "
                      "runs here is asked");
  command->add_flag("-v,--verbose", flags->verbose, "Say who computes what and how much is sent; twice: everything");
  add_json_flag(*command, flags->format, "Print one JSON object at the end");
  command->option_defaults()->group("Prompt, one of them, or a pipe (none, on a terminal: a conversation)");
  auto* prompt = command->add_option("-p,--prompt", flags->prompt, "The prompt");
  auto* file = command->add_option("-f,--file", flags->file, "A file that holds the prompt; - reads it from a pipe");
  auto* tokens = command->add_option("--tokens", flags->tokens, "The prompt as token ids; nothing is added");
  prompt->excludes(file)->excludes(tokens);
  file->excludes(tokens)->type_name("FILE");
  tokens->type_name("1,2,3");
  command->option_defaults()->group("Where a node that runs is asked");
  command->add_option("--model", flags->node.model, "Which of its models; by default the first")->type_name("NAME");
  command->add_option("--api", flags->node.api, "Its API's address; by default that of this machine's node")
      ->type_name("HOST:PORT");
  command->add_option("--key", flags->node.key, "The API's key, where it wants one")
      ->type_name("KEY")
      ->envname("BATON_API_KEY");
  command->option_defaults()->group("Answer");
  command->add_option("-n,--predict", flags->max_new_tokens, "Tokens to generate at most")
      ->check(CLI::Range(1U, 1U << 24))
      ->capture_default_str();
  engine::SamplerOptions& sampler = flags->sampler;
  command->add_option("--temp", sampler.temperature, "Temperature; 0 always takes the likeliest token")
      ->capture_default_str();
  command->add_option("--seed", sampler.seed, "The same seed draws the same tokens")->capture_default_str();
  command->add_option("--top-k", sampler.top_k, "Keep the k likeliest tokens; 0: all")->capture_default_str();
  command->add_option("--top-p", sampler.top_p, "Keep the likeliest tokens up to this total; 1: all")
      ->capture_default_str();
  command->add_option("--min-p", sampler.min_p, "Drop tokens less likely than this share of the best")
      ->capture_default_str();
  command->add_option("--repeat-penalty", sampler.repeat_penalty, "Makes tokens seen less likely; 1: no")
      ->capture_default_str();
  command->add_option("--presence-penalty", sampler.presence_penalty, "Subtracted once from tokens seen")
      ->capture_default_str();
  command->add_option("--frequency-penalty", sampler.frequency_penalty, "Subtracted for each time a token was seen")
      ->capture_default_str();
  command->add_flag("--ignore-eos", flags->ignore_eos, "Go on where the model says that its text ends");
  command->add_flag("--deterministic", flags->deterministic,
                    "After a node's failure, recompute in the shapes that first made the text");
  flags->chat.add_to(*command);
  flags->speculation.add_to(*command);
  flags->plan.add_to(*command);
  flags->device.add_to(*command);
  flags->link.add_to(*command);
  command->footer(
      "Examples:\n"
      "  baton run                                # chats with the node that 'baton up' runs on this machine\n"
      "  baton run model.gguf\n"
      "  baton run model.gguf -p 'The sea is'\n"
      "  cat notes.txt | baton run model.gguf\n"
      "  baton run model.gguf --chat -p 'What is the sea?'\n"
      "  baton run large.gguf -p 'The sea is' --draft small.gguf\n"
      "  baton run large.gguf -f long.txt --prefill-on spark --draft-on spark   # started with --draft small.gguf\n"
      "  baton run model.gguf -f long.txt --prefill-on 192.0.2.7:8771#3f1c...\n"
      "  baton run model.gguf -f long.txt --prefill-on 192.0.2.7:8771#3f1c... --split 26\n"
      "  baton run model.gguf -f long.txt --prefill-on spark   # a node of this machine's cluster, by its name\n"
      "  baton run model.gguf -f long.txt --peer A=192.0.2.7:8771#3f1c... --peer B=192.0.2.8:8771#9ab2... \\\n"
      "      --plan 'prefill=A:0-16,B:16-26,local:26-32;decode=local:0-32'\n\n"
      "Stages of a plan that follow each other, as A and B here, send to each other: start each 'baton node' with\n"
      "--trust and the other's fingerprint, too.");
  command->callback([&chosen, flags, command] {
    chosen = [flags, command] { return flags->model.empty() ? run_by_node(*flags, *command) : run(*flags); };
  });
}

}  // namespace baton::cli
