#include "serve/openai_format.h"

#include <format>

#include "serve/answer_book.h"
#include "serve/json.h"
#include "serve/openai.h"

namespace baton::serve::openai {

namespace {

std::string_view finish_reason(EndReason reason) {
  if (reason == EndReason::kCalls) return "tool_calls";
  return reason == EndReason::kLength ? "length" : "stop";
}

JsonObject call_json(const FunctionCall& call) {
  JsonObject object;
  object.text("id", call.id).text("type", "function");
  return object.raw("function", JsonObject().text("name", call.name).text("arguments", call.arguments).str());
}

std::string bytes_array(std::string_view bytes) {
  std::vector<std::string> items;
  for (const char byte : bytes) items.push_back(std::to_string(static_cast<unsigned char>(byte)));
  return json_array(items);
}

JsonObject scored(const ScoredToken& token) {
  JsonObject object;
  object.text("token", token.bytes).number("logprob", static_cast<double>(token.logprob));
  object.raw("bytes", bytes_array(token.bytes));
  return object;
}

std::string chat_logprobs(std::span<const Piece::Score> scores) {
  std::vector<std::string> content;
  for (const Piece::Score& score : scores) {
    std::vector<std::string> top;
    for (const ScoredToken& token : score.top) top.push_back(scored(token).str());
    content.push_back(scored(score.chosen).raw("top_logprobs", json_array(top)).str());
  }
  return JsonObject().raw("content", json_array(content)).null("refusal").str();
}

std::string usage_json(const Usage& usage) {
  return JsonObject()
      .integer("prompt_tokens", usage.prompt_tokens)
      .integer("completion_tokens", usage.new_tokens)
      .integer("total_tokens", std::int64_t{usage.prompt_tokens} + usage.new_tokens)
      .raw("prompt_tokens_details", JsonObject().integer("cached_tokens", usage.cached_tokens).str())
      .str();
}

// Not OpenAI's: how the answer was made.
std::string course_json(const AnswerEnd& end) {
  return JsonObject()
      .text("shape", end.shape)
      .text("plan", end.plan)
      .flag("recovered", !end.recoveries.empty())
      .raw("replans", replans_json(end.recoveries))
      .number("queue_ms", in_milliseconds(end.queue_s))
      .number("prefill_ms", in_milliseconds(end.prefill_s))
      .number("decode_ms", in_milliseconds(end.decode_s))
      .integer("prompt_tokens", end.prompt_tokens)
      .integer("cached_tokens", end.cached_tokens)
      .integer("completion_tokens", end.new_tokens)
      .str();
}

// What chat and completions share: ids, usage, the end of the stream.
class Format : public AnswerFormat {
 public:
  Format(std::string_view id_prefix, FormatOptions options)
      : options_(std::move(options)), id_(new_id(id_prefix)), created_(unix_time()) {}

  std::string end(std::span<const Choice> choices) override {
    std::string text;
    if (options_.include_usage) {
      text = server_sent_event(
          chunk().raw("choices", "[]").raw("usage", usage_json(usage_of(choices, options_.choices))).str());
    }
    return text + server_sent_event("[DONE]");
  }
  std::string error(const Error& error) override { return server_sent_event(error_body(500, error)); }

 protected:
  virtual std::string_view chunk_object() const = 0;

  JsonObject head(std::string_view object) const {
    JsonObject made;
    made.text("id", id_).text("object", object).integer("created", created_).text("model", options_.model);
    return made;
  }
  JsonObject chunk() const { return head(chunk_object()); }
  std::string event(std::string_view choice) const {
    JsonObject made = chunk();
    made.raw("choices", std::format("[{}]", choice));
    if (options_.include_usage) made.null("usage");
    return server_sent_event(made.str());
  }
  const FormatOptions& options() const { return options_; }

 private:
  const FormatOptions options_;
  const std::string id_;
  const std::int64_t created_;
};

class ChatFormat : public Format {
 public:
  explicit ChatFormat(FormatOptions options) : Format("chatcmpl", std::move(options)) {}

  std::string whole(std::span<const Choice> choices) override {
    std::vector<std::string> items;
    for (std::size_t index = 0; index < choices.size(); ++index) {
      const Choice& choice = choices[index];
      JsonObject message;
      message.text("role", "assistant");
      // A message that only calls says nothing.
      if (choice.text.empty() && !choice.calls.empty()) {
        message.null("content");
      } else {
        message.text("content", choice.text);
      }
      if (!choice.reasoning.empty()) message.text("reasoning_content", choice.reasoning);
      if (!choice.calls.empty()) {
        std::vector<std::string> calls;
        for (const FunctionCall& call : choice.calls) calls.push_back(call_json(call).str());
        message.raw("tool_calls", json_array(calls));
      }
      message.null("refusal");
      JsonObject item;
      item.integer("index", static_cast<std::int64_t>(index)).raw("message", message.str());
      add_logprobs(item, choice.scores);
      item.text("finish_reason", finish_reason(choice.end.reason)).raw("baton", course_json(choice.end));
      items.push_back(item.str());
    }
    return head("chat.completion")
        .raw("choices", json_array(items))
        .raw("usage", usage_json(usage_of(choices, options().choices)))
        .str();
  }
  std::string begin() override {
    std::string text;
    for (std::uint32_t index = 0; index < options().choices; ++index) {
      const std::string delta = JsonObject().text("role", "assistant").text("content", "").str();
      text += event(delta_choice(index, delta, {}).null("finish_reason").str());
    }
    return text;
  }
  std::string piece(std::size_t choice, const Piece& piece) override {
    std::string events;
    if (!piece.reasoning.empty()) {
      events = delta_event(choice, JsonObject().text("reasoning_content", piece.reasoning), {});
    }
    if (!piece.text.empty() || !piece.scores.empty()) {
      events += delta_event(choice, JsonObject().text("content", piece.text), piece.scores);
    }
    if (calls_.size() <= choice) calls_.resize(choice + 1);
    for (const FunctionCall& call : piece.calls) {
      JsonObject indexed;
      indexed.integer("index", calls_[choice]++).text("id", call.id).text("type", "function");
      indexed.raw("function", JsonObject().text("name", call.name).text("arguments", call.arguments).str());
      events += delta_event(choice, JsonObject().raw("tool_calls", json_array(std::vector{indexed.str()})), {});
    }
    return events;
  }
  std::string end_of_choice(std::size_t choice, const AnswerEnd& end) override {
    JsonObject item = delta_choice(choice, "{}", {});
    item.text("finish_reason", finish_reason(end.reason)).raw("baton", course_json(end));
    return event(item.str());
  }

 protected:
  std::string_view chunk_object() const override { return "chat.completion.chunk"; }

 private:
  std::string delta_event(std::size_t choice, const JsonObject& delta, std::span<const Piece::Score> scores) const {
    return event(delta_choice(choice, delta.str(), scores).null("finish_reason").str());
  }
  void add_logprobs(JsonObject& item, std::span<const Piece::Score> scores) const {
    if (options().logprobs) {
      item.raw("logprobs", chat_logprobs(scores));
    } else {
      item.null("logprobs");
    }
  }
  JsonObject delta_choice(std::size_t index, std::string_view delta, std::span<const Piece::Score> scores) const {
    JsonObject item;
    item.integer("index", static_cast<std::int64_t>(index)).raw("delta", delta);
    if (scores.empty()) return item.null("logprobs");
    add_logprobs(item, scores);
    return item;
  }

  std::vector<std::int64_t> calls_;  // of each choice so far
};

class CompletionFormat : public Format {
 public:
  explicit CompletionFormat(FormatOptions options) : Format("cmpl", std::move(options)) {}

  std::string whole(std::span<const Choice> choices) override {
    std::vector<std::string> items;
    for (std::size_t index = 0; index < choices.size(); ++index) {
      const Choice& choice = choices[index];
      const std::string echo = echo_of(index);
      items.push_back(item(index, echo + choice.text, choice.scores, echo.size())
                          .text("finish_reason", finish_reason(choice.end.reason))
                          .raw("baton", course_json(choice.end))
                          .str());
    }
    return head("text_completion")
        .raw("choices", json_array(items))
        .raw("usage", usage_json(usage_of(choices, options().choices)))
        .str();
  }
  std::string piece(std::size_t choice, const Piece& piece) override {
    if (offsets_.size() <= choice) offsets_.resize(choice + 1);
    const std::string echo = offsets_[choice] == 0 ? echo_of(choice) : std::string();
    const std::size_t offset = offsets_[choice] + echo.size();
    offsets_[choice] = offset + piece.text.size();
    return event(item(choice, echo + piece.text, piece.scores, offset).null("finish_reason").str());
  }
  std::string end_of_choice(std::size_t choice, const AnswerEnd& end) override {
    JsonObject last = item(choice, "", {}, 0);
    last.text("finish_reason", finish_reason(end.reason)).raw("baton", course_json(end));
    return event(last.str());
  }

 protected:
  std::string_view chunk_object() const override { return "text_completion"; }

 private:
  std::string echo_of(std::size_t choice) const {
    const std::size_t prompt = choice / options().choices;
    return prompt < options().echo.size() ? options().echo[prompt] : std::string();
  }
  JsonObject item(std::size_t index, std::string_view text, std::span<const Piece::Score> scores,
                  std::size_t offset) const {
    JsonObject made;
    made.text("text", text).integer("index", static_cast<std::int64_t>(index));
    if (!options().logprobs || scores.empty()) return made.null("logprobs");
    std::vector<std::string> tokens;
    std::vector<std::string> logprobs;
    std::vector<std::string> tops;
    std::vector<std::string> offsets;
    for (const Piece::Score& score : scores) {
      tokens.push_back(json_string(score.chosen.bytes));
      logprobs.push_back(json_number(static_cast<double>(score.chosen.logprob)));
      JsonObject top;
      for (const ScoredToken& token : score.top) top.number(token.bytes, static_cast<double>(token.logprob));
      tops.push_back(top.str());
      offsets.push_back(std::to_string(offset));
      offset += score.chosen.bytes.size();
    }
    return made.raw("logprobs", JsonObject()
                                    .raw("tokens", json_array(tokens))
                                    .raw("token_logprobs", json_array(logprobs))
                                    .raw("top_logprobs", json_array(tops))
                                    .raw("text_offset", json_array(offsets))
                                    .str());
  }

  std::vector<std::size_t> offsets_;
};

}  // namespace

std::unique_ptr<AnswerFormat> chat_format(FormatOptions options) {
  return std::make_unique<ChatFormat>(std::move(options));
}

std::unique_ptr<AnswerFormat> completion_format(FormatOptions options) {
  return std::make_unique<CompletionFormat>(std::move(options));
}

}  // namespace baton::serve::openai
