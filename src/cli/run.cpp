#include <unistd.h>
#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <cstdio>
#include <format>
#include <memory>

#include "base/log.h"
#include "cli/chat.h"
#include "cli/cluster_peers.h"
#include "cli/command.h"
#include "cli/model_source.h"
#include "cli/options.h"
#include "cli/plan_flags.h"
#include "cli/run_printer.h"
#include "cli/run_result.h"
#include "cli/signals.h"
#include "cli/speculation_flags.h"
#include "model/vocabulary.h"
#include "node/node.h"
#include "text/tokenizer.h"

namespace baton::cli {

namespace {

struct RunFlags {
  std::string model;
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

  // Without a prompt, on a terminal, it is a conversation.
  bool is_dialogue() const { return !prompt && !file && !tokens && !chat.raw && isatty(STDIN_FILENO) != 0; }
};

// How long a dialogue may grow where --ctx does not say.
constexpr std::uint32_t kDialogueTokens = 4096;

// How long a finished request waits for its peers to hear that they are free again.
constexpr auto kGoodbyeTimeout = std::chrono::seconds(1);

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

Result<std::vector<Token>> read_prompt(const RunFlags& flags, const model::GgufFile& file,
                                       const std::optional<text::Tokenizer>& tokenizer) {
  if (flags.is_dialogue()) return std::vector<Token>();
  if (flags.tokens) return parse_tokens(*flags.tokens);
  if (!flags.prompt && !flags.file) {
    return fail(
        ErrorCode::kInvalidArgument,
        "there is no prompt: give one with -p TEXT, -f FILE (- for a pipe) or --tokens 1,2,3, or chat on a terminal");
  }
  if (!tokenizer) return fail(ErrorCode::kUnsupported, "this model has no tokenizer: give the prompt with --tokens");
  const std::string text = flags.file ? TRY(read_text(*flags.file)) : *flags.prompt;
  if (text.empty()) {
    return fail(ErrorCode::kInvalidArgument, "the prompt is empty: there is nothing to go on from",
                flags.file.value_or("-p"));
  }
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

std::string summary(const RunResult& result) {
  const node::RequestTimings& times = result.timings;
  return std::format(
      "{}{}: {} prompt tokens, first token after {:.3f} s, {} tokens, {:.1f} tokens/s, {:.3f} s in all{}",
      result.emulated ? "emulated, " : "", result.shape, result.prompt_tokens, times.first_token_s,
      result.tokens.size(), times.decode_s > 0 ? static_cast<double>(result.tokens.size() - 1) / times.decode_s : 0.0,
      times.total_s, result.emulation_valid ? "" : "; INVALID: this machine was too slow for the emulation");
}

Result<void> run(const RunFlags& flags) {
  if (flags.verbose > 0) log::set_level(flags.verbose == 1 ? log::Level::kInfo : log::Level::kDebug);
  const cluster::Folder folder = TRY(cluster::Folder::open(TRY(flags.link.folder())));
  const net::Identity& identity = folder.identity();
  const auto model = TRY(engine::Model::open(TRY(obtain_model(flags.model, flags.link)).path));
  const auto draft = TRY(flags.speculation.open_draft(*model));
  const std::uint32_t layers = model->shape().layer_count;
  auto vocabulary = TRY(text::Vocabulary::create(TRY(model::read_vocabulary(model->file()))));
  std::optional<text::Tokenizer> tokenizer;
  if (vocabulary.kind() != text::TokenizerKind::kNone) tokenizer = TRY(text::Tokenizer::create(std::move(vocabulary)));

  node::RequestOptions request;
  request.prompt = TRY(read_prompt(flags, model->file(), tokenizer));
  ClusterPeers peers;
  if (flags.plan.wants_others()) peers = TRY(ClusterPeers::read(folder));
  request.plan = TRY(flags.plan.plan_for(layers, identity.fingerprint().to_string(), peers.nodes()));
  for (const std::string& line : peer_tasks(request.plan)) log::info("{}", line);
  request.max_new_tokens = flags.max_new_tokens;
  request.sampler = flags.sampler;
  if (tokenizer && !flags.ignore_eos) request.end_tokens = tokenizer->vocabulary().end_tokens();
  request.chunk_tokens = flags.device.chunk_tokens;
  request.codec = TRY(flags.link.codec_type());
  request.hidden = TRY(flags.link.hidden_type());
  request.speculation = TRY(flags.speculation.speculation());
  request.determinism = flags.deterministic ? handoff::Determinism::kDeterministic : handoff::Determinism::kFast;

  engine::EngineOptions options = TRY(flags.device.engine_options());
  const auto needed = static_cast<std::uint32_t>(request.prompt.size()) + request.max_new_tokens;
  if (options.context_tokens == 0) options.context_tokens = flags.is_dialogue() ? kDialogueTokens : needed;
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
  if (flags.is_dialogue()) {
    if (!tokenizer) return fail(ErrorCode::kUnsupported, "this model has no tokenizer, so nobody can chat with it");
    dialogue = TRY(ChatPrompter::create(model->file(), *tokenizer, flags.chat));
    block_chat_signals();
  }
  const auto loop = TRY(net::EventLoop::create());
  const auto make_node = [&](node::NodeOptions node_options) -> Result<std::unique_ptr<node::Node>> {
    // The digest is what peers compare; alone, nobody asks for it.
    const Sha256 digest = alone ? Sha256{} : TRY(model->digest());
    auto executor = TRY(start_executor(model, options));
    node_options.draft = TRY(flags.speculation.load_draft(draft, executor->engine(), request.plan));
    return node::Node::create(*loop, identity, std::move(executor), digest, std::move(node_options));
  };
  if (dialogue) {
    const auto node = TRY(make_node({}));
    return run_chat(*loop, *node, *tokenizer, *std::move(dialogue), request, options.context_tokens);
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
    printer.when_done = [&] { node->when_quiet(kGoodbyeTimeout, [&] { loop->stop(); }); };
    // Nobody reads on, or the disk is full. Posted, as the request is in the middle of telling us a token.
    printer.when_output_failed = [&] {
      loop->post([&] {
        if (running) running->cancel();
      });
    };
    running = TRY(node->submit(std::move(request), printer));
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
  for (const node::Recovery& recovery : report.recoveries) {
    result.failures.push_back({recovery.peer, recovery.address, std::string(error_code_name(recovery.error.code)),
                               recovery.error.message, recovery.plan, recovery.salvaged_tokens});
  }
  result.recoveries = static_cast<std::uint32_t>(report.recoveries.size());
  if (!report.recoveries.empty()) result.salvaged_tokens = report.recoveries.back().salvaged_tokens;
  result.timings = report.timings;
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
  command->add_option("MODEL", flags->model, kModelHelp)->required();
  command->add_flag("-v,--verbose", flags->verbose, "Say who computes what and how much is sent; twice: everything");
  add_json_flag(*command, flags->format, "Print one JSON object at the end");
  command->option_defaults()->group("Prompt, one of them (none, on a terminal: a conversation)");
  auto* prompt = command->add_option("-p,--prompt", flags->prompt, "The prompt");
  auto* file = command->add_option("-f,--file", flags->file, "A file that holds the prompt; - reads it from a pipe");
  auto* tokens = command->add_option("--tokens", flags->tokens, "The prompt as token ids; nothing is added");
  prompt->excludes(file)->excludes(tokens);
  file->excludes(tokens)->type_name("FILE");
  tokens->type_name("1,2,3");
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
      "  baton run model.gguf\n"
      "  baton run model.gguf -p 'The sea is'\n"
      "  baton run model.gguf --chat -p 'What is the sea?'\n"
      "  baton run large.gguf -p 'The sea is' --draft small.gguf\n"
      "  baton run model.gguf -f long.txt --prefill-on 192.0.2.7:8771#3f1c...\n"
      "  baton run model.gguf -f long.txt --prefill-on 192.0.2.7:8771#3f1c... --split 26\n"
      "  baton run model.gguf -f long.txt --prefill-on spark   # a node of this machine's cluster, by its name\n"
      "  baton run model.gguf -f long.txt --peer A=192.0.2.7:8771#3f1c... --peer B=192.0.2.8:8771#9ab2... \\\n"
      "      --plan 'prefill=A:0-16,B:16-26,local:26-32;decode=local:0-32'");
  command->callback([&chosen, flags] { chosen = [flags] { return run(*flags); }; });
}

}  // namespace baton::cli
