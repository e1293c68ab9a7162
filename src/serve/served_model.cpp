#include "serve/served_model.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>

#include "base/log.h"
#include "model/chat_templates.h"
#include "model/vocabulary.h"

namespace baton::serve {

namespace {

// Of texts and their tokens, so that a conversation's next turn is not tokenised from its beginning.
constexpr std::size_t kKnownTextBytes = 32 << 20;
// Rerankers' files have a template of this name.
constexpr std::string_view kPairTemplate = "rerank";

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

// Cuts off what the template writes behind the last message: the end of its turn.
Result<void> end_with_last_message(const text::ChatRequest& request, text::MarkedText& rendered) {
  const auto* words = std::get_if<std::string>(&request.messages.back().content);
  // Templates trim messages.
  const std::size_t end = words == nullptr ? std::string::npos : words->find_last_not_of(" \t\r\n");
  if (end == std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, "the last message says nothing that an answer could go on from",
                "messages");
  }
  const std::string_view said = std::string_view(*words).substr(0, end + 1);
  const std::size_t begin = std::min(said.find_first_not_of(" \t\r\n"), said.size());
  const std::size_t found = rendered.bytes().rfind(said.substr(begin));
  if (found == std::string::npos) {
    return fail(ErrorCode::kUnsupported,
                "this model's chat template does not write the last message as it is, so that no answer can go on from "
                "within it: let the conversation end with the user's message",
                "messages");
  }
  rendered.cut_to(found + said.size() - begin);
  return {};
}

}  // namespace

ServedModel::ServedModel(std::shared_ptr<const engine::Model> model, std::string id, text::Tokenizer tokenizer)
    : model_(std::move(model)),
      id_(std::move(id)),
      created_(changed_at(model_->path())),
      tokenizer_(std::move(tokenizer)) {
  if (id_.empty()) id_ = model_->path().stem().string();
  known_texts_ = std::make_unique<text::TokenCache>(kKnownTextBytes);
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
  served->fill_in_ = TRY(find_fill_in_tokens(served->model_->file(), served->vocabulary()));
  if (auto pairs = model::read_chat_template(served->model_->file(), kPairTemplate)) {
    served->pair_template_ = *std::move(pairs);
  }
  auto source = model::read_chat_template(served->model_->file(), template_name);
  if (!source) {
    served->why_no_chat_ = source.error().message;
    return served;
  }
  served->template_source_ = *std::move(source);
  auto chat_template = text::ChatTemplate::create(served->template_source_, served->vocabulary().control_texts());
  if (chat_template) {
    served->chat_template_ = *std::move(chat_template);
    served->syntax_ = read_answer_syntax(served->template_source_);
    served->marks_ = mark_tokens(served->syntax_, served->vocabulary());
    served->thinking_ = ThinkingControl(*served->chat_template_, served->syntax_);
  } else {
    served->why_no_chat_ = chat_template.error().to_string();
    log::warning("the model's chat template is not used: {}", served->why_no_chat_);
  }
  return served;
}

bool ServedModel::can_call() const { return syntax_.calls != CallSyntax::kNone && template_source_.contains("tools"); }

Result<ChatPrompt> ServedModel::chat_prompt(text::ChatRequest request, AnswerStart start) const {
  if (!chat_template_) {
    return fail(ErrorCode::kUnsupported,
                "this model cannot chat, only continue a text, as POST /v1/completions does: " + why_no_chat_);
  }
  request.bos_token = token_text(vocabulary(), vocabulary().bos());
  request.eos_token = token_text(vocabulary(), vocabulary().eos());
  request.local_time = local_time();
  if (start == AnswerStart::kWithinLastMessage) request.generation_prompt = text::GenerationPrompt::kNone;
  text::MarkedText rendered = TRY(chat_template_->render(request));
  if (start == AnswerStart::kWithinLastMessage) TRY(end_with_last_message(request, rendered));
  ChatPrompt prompt {
    TRY(tokenizer_.encode(rendered, *known_texts_))
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

Result<std::vector<Token>> ServedModel::fill_in_prompt(const std::string& before, const std::string& behind) const {
  if (!fill_in_) {
    return fail(ErrorCode::kUnsupported,
                "'suffix' is not supported with this model: its vocabulary has no tokens for filling in", "suffix");
  }
  std::vector<Token> tokens = tokenizer_.begin_sequence();
  const auto add = [&](Token mark, const std::string& text) -> Result<void> {
    tokens.push_back(mark);
    const auto encoded = TRY(tokenizer_.encode(text, text::SpecialTokens::kAsPlainText));
    tokens.insert(tokens.end(), encoded.begin(), encoded.end());
    return {};
  };
  TRY(add(fill_in_->prefix, before));
  TRY(add(fill_in_->suffix, behind));
  tokens.push_back(fill_in_->middle);
  return tokens;
}

Result<std::vector<Token>> ServedModel::embedding_prompt(const std::string& text) const {
  std::vector<Token> tokens = TRY(text_prompt(text));
  const std::vector<Token> end = tokenizer_.end_sequence();
  tokens.insert(tokens.end(), end.begin(), end.end());
  return tokens;
}

Result<std::vector<Token>> ServedModel::pair_prompt(const std::string& query, const std::string& document) const {
  if (!pair_template_) {
    return fail(
        ErrorCode::kUnsupported,
        "this model's file has no template 'rerank', so that it is unknown how it reads a query and a document");
  }
  text::MarkedText pair;
  const std::string_view source = *pair_template_;
  for (std::size_t at = 0; at < source.size();) {
    const std::size_t brace = std::min(source.find('{', at), source.size());
    pair.append(source.substr(at, brace - at));
    at = brace;
    const auto take = [&](std::string_view name, const std::string& words) {
      if (!source.substr(at).starts_with(name)) return false;
      pair.append(words, text::Origin::kForeign);
      at += name.size();
      return true;
    };
    if (at == source.size() || take("{query}", query) || take("{document}", document)) continue;
    pair.append("{");
    ++at;
  }
  return tokenizer_.encode(pair);
}

}  // namespace baton::serve
