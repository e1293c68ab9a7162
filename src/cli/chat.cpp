#include "cli/chat.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <format>

#include "cli/run_printer.h"
#include "cli/signals.h"
#include "cli/text_output.h"
#include "model/chat_templates.h"
#include "text/detokenizer.h"

namespace baton::cli {

namespace {

// Streams one answer, and ends the loop with it.
class AnswerPrinter : public node::RequestObserver {
 public:
  AnswerPrinter(net::EventLoop& loop, const text::Vocabulary& vocabulary)
      : loop_(loop), detokenizer_(vocabulary, text::TextStart::kContinuation) {}

  void on_prefilled(std::uint32_t, std::uint32_t) override {}
  void on_token(Token token) override { emit(detokenizer_.push(token)); }
  void on_recovery(const node::Recovery& recovery) override {
    std::fprintf(stderr, "\nbaton: %s\n", recovery_text(recovery).c_str());
  }
  void on_finished(Result<node::RequestReport> report) override {
    emit(detokenizer_.finish());
    report_ = std::move(report);
    loop_.stop();
  }

  const std::string& text() const { return text_; }
  const std::optional<Result<node::RequestReport>>& report() const { return report_; }
  const Result<void>& output() const { return output_; }

 private:
  void emit(std::string_view piece) {
    text_ += piece;
    if (output_ && !piece.empty()) output_ = print(piece);
  }

  net::EventLoop& loop_;
  text::Detokenizer detokenizer_;
  std::string text_;
  Result<void> output_;
  std::optional<Result<node::RequestReport>> report_;
};

std::chrono::local_seconds local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  return std::chrono::local_seconds(std::chrono::seconds(::timegm(&parts)));
}

std::string token_text(const text::Vocabulary& vocabulary, std::optional<Token> token) {
  return token ? vocabulary.stored_text(*token) : "";
}

// Where the model has none, the error says what can be done with it all the same.
Result<std::string> template_source(const model::GgufFile& file, const ChatFlags& flags) {
  auto source = model::read_chat_template(file, flags.template_name);
  if (source || source.error().code != ErrorCode::kUnsupported) return source;
  Error error = std::move(source).error();
  error.message += flags.wanted() ? ", so it cannot chat: without --chat and --system it goes on from the prompt"
                                  : ", so it cannot chat: give it a text to go on from with -p TEXT";
  return std::unexpected(std::move(error));
}

}  // namespace

void ChatFlags::add_to(CLI::App& command) {
  command.option_defaults()->group("Conversation");
  auto* as_chat = command.add_flag("--chat", chat, "Take the prompt for a question, put by the model's chat template");
  auto* with_system =
      command.add_option("--system", system, "What the model is told before the conversation (implies --chat)");
  command.add_flag("--raw", raw, "Take the prompt for the beginning of a text (as without --chat)")
      ->excludes(as_chat)
      ->excludes(with_system);
  command.add_option("--chat-template", template_name, "Which of the model's templates")
      ->capture_default_str()
      ->type_name("NAME");
  command.add_option("--set", variables, "A variable of the template, such as enable_thinking=false; repeatable")
      ->type_name("NAME=JSON");
}

Result<ChatPrompter> ChatPrompter::create(const model::GgufFile& file, const text::Tokenizer& tokenizer,
                                          const ChatFlags& flags) {
  const std::string source = TRY(template_source(file, flags));
  const text::Vocabulary& vocabulary = tokenizer.vocabulary();
  auto chat_template = TRY(text::ChatTemplate::create(source, vocabulary.control_texts()));
  text::ChatRequest request;
  request.bos_token = token_text(vocabulary, vocabulary.bos());
  request.eos_token = token_text(vocabulary, vocabulary.eos());
  request.local_time = local_now();
  for (const std::string& variable : flags.variables) {
    const std::size_t equals = variable.find('=');
    if (equals == std::string::npos || equals == 0) {
      return fail(ErrorCode::kInvalidArgument, std::format("--set takes NAME=JSON, not '{}'", variable));
    }
    request.variables.emplace_back(variable.substr(0, equals), variable.substr(equals + 1));
  }
  ChatPrompter prompter(tokenizer, std::move(chat_template), std::move(request));
  if (!flags.system.empty()) prompter.add(text::Role::kSystem, flags.system);
  return prompter;
}

void ChatPrompter::add(text::Role role, std::string text) {
  text::ChatMessage& message = request_.messages.emplace_back();
  message.role = role;
  message.content = std::move(text);
}

Result<std::vector<Token>> ChatPrompter::prompt() const {
  const text::MarkedText text = TRY(template_.render(request_));
  return tokenizer_->encode(text);
}

void ChatPrompter::forget() {
  std::erase_if(request_.messages,
                [](const text::ChatMessage& message) { return message.role != text::Role::kSystem; });
}

LocalAnswerer::LocalAnswerer(net::EventLoop& loop, node::LoadedModel& model, const text::Tokenizer& tokenizer,
                             ChatPrompter prompter, node::RequestOptions request)
    : loop_(loop), model_(model), tokenizer_(tokenizer), prompter_(std::move(prompter)), request_(std::move(request)) {}

Result<void> LocalAnswerer::answer(std::string question) {
  prompter_.add_user(std::move(question));
  auto said = stream_answer();
  if (!said) {
    prompter_.drop_last();
    return std::unexpected(said.error());
  }
  prompter_.add_assistant(*std::move(said));
  return {};
}

// The text of it, whole or as far as it came.
Result<std::string> LocalAnswerer::stream_answer() {
  node::RequestOptions turn = request_;
  turn.prompt = TRY(prompter_.prompt());
  const std::uint32_t context_tokens = model_.engine().options().context_tokens;
  if (turn.prompt.size() >= context_tokens) {
    return fail(ErrorCode::kNoCapacity,
                std::format("the conversation is {} tokens long, and --ctx is {}: /clear begins another",
                            turn.prompt.size(), context_tokens));
  }
  turn.max_new_tokens = std::min(turn.max_new_tokens, context_tokens - static_cast<std::uint32_t>(turn.prompt.size()));
  AnswerPrinter printer(loop_, tokenizer_.vocabulary());
  // A signal's task may be left in the loop for the next turn, when this one's request is gone.
  const auto running = std::make_shared<std::weak_ptr<node::Request>>();
  const SignalWatch signals([running, &loop = loop_] {
    loop.post([running] {
      if (const auto request = running->lock()) request->cancel();
    });
  });
  auto request = TRY(model_.submit(std::move(turn), printer));
  *running = request;
  loop_.run();
  request.reset();
  // A pass that was begun for an answer nobody waits for any more has its cells until it has ended; the next answer may
  // need them.
  TRY(model_.executor().submit([&](engine::Engine&, const std::stop_token&) { loop_.post([&] { loop_.stop(); }); }));
  loop_.run();
  TRY(printer.output());
  const auto& report = *printer.report();
  if (!report && report.error().code != ErrorCode::kCancelled) return std::unexpected(report.error());
  return printer.text();
}

}  // namespace baton::cli
