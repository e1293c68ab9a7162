#include <CLI/CLI.hpp>

#include <algorithm>
#include <format>
#include <memory>

#include "base/atomic_file.h"
#include "cli/command.h"
#include "cli/model_source.h"
#include "cli/options.h"

namespace baton::cli {

namespace {

struct LogitsFlags {
  std::string model;
  std::string tokens;
  std::string out;
  DeviceFlags device;
};

Result<void> logits(const LogitsFlags& flags) {
  const std::vector<Token> tokens = TRY(parse_tokens(flags.tokens));
  const auto count = static_cast<std::uint32_t>(tokens.size());
  engine::EngineOptions options = TRY(flags.device.engine_options());
  options.context_tokens = std::max(options.context_tokens, count);
  options.sequences = 1;
  const auto engine = TRY(engine::Engine::create(TRY(engine::Model::open(TRY(find_model(flags.model)).path)), options));
  engine::Sequence sequence = TRY(engine->reserve(count));
  AtomicFile out = TRY(AtomicFile::create(flags.out));
  std::vector<float> rows;
  for (std::uint32_t first = 0; first < count; first += options.max_chunk_tokens) {
    const std::uint32_t chunk = std::min(options.max_chunk_tokens, count - first);
    rows.resize(std::size_t{chunk} * engine->shape().vocabulary_size);
    const engine::BatchSpan span{&sequence, first, chunk, engine::WantedLogits::kAll};
    const engine::Batch batch{.layers = {0, engine->shape().layer_count},
                              .spans = {&span, 1},
                              .tokens = std::span(tokens).subspan(first, chunk),
                              .hidden = {}};
    TRY(engine->forward(batch, {.hidden = {}, .logits = rows}));
    TRY(out.write(std::as_bytes(std::span(rows))));
  }
  TRY(out.commit());
  remark(std::format("{}: the logits of {} position{}, {} float32 values each\n", flags.out, count,
                     count == 1 ? "" : "s", engine->shape().vocabulary_size));
  return {};
}

}  // namespace

void add_logits(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<LogitsFlags>();
  CLI::App* command = app.add_subcommand("logits", "Write the logits of every position of a token sequence");
  command->add_option("MODEL", flags->model, kModelHelp)->required();
  command->add_option("--tokens", flags->tokens, "Token ids")->required()->type_name("1,2,3");
  command->add_option("--out", flags->out, "File to write: float32, [position][vocabulary]")
      ->required()
      ->type_name("FILE");
  flags->device.add_to(*command);
  command->footer("Example:\n  baton logits model.gguf --tokens 1,450,4996 --chunk 16 --out logits.f32");
  command->callback([&chosen, flags] { chosen = [flags] { return logits(*flags); }; });
}

}  // namespace baton::cli
