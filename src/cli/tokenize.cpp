#include <CLI/CLI.hpp>

#include <format>
#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/model_source.h"
#include "cli/options.h"
#include "model/gguf.h"
#include "model/vocabulary.h"
#include "text/tokenizer.h"

namespace baton::cli {

namespace {

struct TokenizeFlags {
  std::string model;
  std::optional<std::string> text;
  std::optional<std::string> file;
  bool special = false;
  OutputFormat format = OutputFormat::kText;
};

Result<void> tokenize(const TokenizeFlags& flags) {
  if (!flags.text && !flags.file) {
    return fail(ErrorCode::kInvalidArgument, "there is no text: give one with --text TEXT or --file FILE");
  }
  const auto file = TRY(model::GgufFile::open(TRY(find_model(flags.model)).path));
  const auto tokenizer = TRY(text::Tokenizer::create(TRY(text::Vocabulary::create(TRY(model::read_vocabulary(file))))));
  const std::string text = flags.file ? TRY(read_text(*flags.file)) : *flags.text;
  const auto mode = flags.special ? text::SpecialTokens::kParse : text::SpecialTokens::kAsPlainText;
  const bool json = flags.format == OutputFormat::kJson;
  std::string list;
  for (const Token token : TRY(tokenizer.encode(text, mode))) {
    list += std::format("{}{}", list.empty() ? "" : json ? "," : " ", token);
  }
  return print(json ? std::format("[{}]\n", list) : list + "\n");
}

}  // namespace

void add_tokenize(CLI::App& app, Action& chosen) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* command = app.add_subcommand("tokenize", "Print a text's tokens, without BOS or EOS");
  command->add_option("MODEL", flags->model, kModelHelp)->required();
  auto* text = command->add_option("--text", flags->text, "The text");
  auto* file =
      command->add_option("--file", flags->file, "A file whose bytes are the text, as they are; - reads a pipe")
          ->type_name("FILE");
  text->excludes(file);
  command->add_flag("--special", flags->special, "Read control tokens such as <|im_end|> as tokens, not as text");
  add_json_flag(*command, flags->format, "Print a JSON array");
  command->footer("Example:\n  baton tokenize model.gguf --text 'Hello world' --json");
  command->callback([&chosen, flags] { chosen = [flags] { return tokenize(*flags); }; });
}

}  // namespace baton::cli
