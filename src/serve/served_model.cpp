#include "serve/served_model.h"

#include <chrono>
#include <ctime>
#include <filesystem>

#include "base/log.h"
#include "model/chat_templates.h"
#include "model/vocabulary.h"

namespace baton::serve {

namespace {

std::chrono::local_seconds local_time() {
  const std::time_t time = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&time, &parts);
  return std::chrono::local_seconds(std::chrono::seconds(::timegm(&parts)));
}

std::string token_text(const text::Vocabulary& vocabulary, std::optional<Token> token) {
  return token ? vocabulary.stored_text(*token) : "";
}

std::int64_t changed_at(const std::filesystem::path& path) {
  std::error_code error;
  const auto changed = std::filesystem::last_write_time(path, error);
  if (error) return 0;
  const auto time = std::chrono::file_clock::to_sys(changed).time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(time).count();
}

}  // namespace

ServedModel::ServedModel(std::shared_ptr<const engine::Model> model, std::string id, text::Tokenizer tokenizer)
    : model_(std::move(model)),
      id_(std::move(id)),
      created_(changed_at(model_->path())),
      tokenizer_(std::move(tokenizer)) {
  if (id_.empty()) id_ = model_->path().stem().string();
  forms_ = std::make_unique<FormCache>(vocabulary(), syntax_);
}

Result<std::unique_ptr<const ServedModel>> ServedModel::create(std::shared_ptr<const engine::Model> model,
                                                               std::string id, const std::string& template_name) {
  auto vocabulary = TRY(text::Vocabulary::create(TRY(model::read_vocabulary(model->file()))));
  if (vocabulary.kind() == text::TokenizerKind::kNone) {
    return fail(ErrorCode::kUnsupported, "this model has no tokenizer, so no API can serve it", model->path().string());
  }
  auto tokenizer = TRY(text::Tokenizer::create(std::move(vocabulary)));
  std::unique_ptr<ServedModel> served(new ServedModel(std::move(model), std::move(id), std::move(tokenizer)));
  auto source = model::read_chat_template(served->model_->file(), template_name);
  if (!source) {
    served->why_no_chat_ = source.error().to_string();
    return served;
  }
  served->template_source_ = *std::move(source);
  auto chat_template = text::ChatTemplate::create(served->template_source_, served->vocabulary().control_texts());
  if (chat_template) {
    served->chat_template_ = *std::move(chat_template);
    served->syntax_ = read_answer_syntax(served->template_source_);
    served->marks_ = mark_tokens(served->syntax_, served->vocabulary());
  } else {
    served->why_no_chat_ = chat_template.error().to_string();
    log::warning("the model's chat template is not used: {}", served->why_no_chat_);
  }
  return served;
}

bool ServedModel::can_call() const { return syntax_.calls != CallSyntax::kNone && template_source_.contains("tools"); }

Result<ChatPrompt> ServedModel::chat_prompt(text::ChatRequest request) const {
  if (!chat_template_) {
    return fail(ErrorCode::kUnsupported, "this model cannot chat, only continue a text: " + why_no_chat_);
  }
  request.bos_token = token_text(vocabulary(), vocabulary().bos());
  request.eos_token = token_text(vocabulary(), vocabulary().eos());
  request.local_time = local_time();
  const text::MarkedText rendered = TRY(chat_template_->render(request));
  ChatPrompt prompt {
    TRY(tokenizer_.encode(rendered))
    , { .syntax = syntax_ }
  };
  prompt.reading.in_thought = ends_in_thought(syntax_, rendered.bytes());
  return prompt;
}

Result<std::vector<Token>> ServedModel::text_prompt(const std::string& text) const {
  std::vector<Token> tokens = tokenizer_.begin_sequence();
  const std::vector<Token> encoded = TRY(tokenizer_.encode(text, text::SpecialTokens::kAsPlainText));
  tokens.insert(tokens.end(), encoded.begin(), encoded.end());
  return tokens;
}

}  // namespace baton::serve
