#include "serve/vectors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <format>
#include <numeric>

#include "serve/ollama.h"
#include "serve/openai.h"

namespace baton::serve::vectors {

namespace {

constexpr std::size_t kMostTexts = 2048;

Result<std::vector<Token>> text_tokens(const ServedModel& model, const std::string& text, const std::string& path) {
  if (text.empty()) return fail(ErrorCode::kInvalidArgument, std::format("'{}' is empty", path), path);
  return model.embedding_prompt(text);
}

// One text, or several.
Result<std::vector<std::vector<Token>>> parse_texts(const Json& value, const std::string& path,
                                                    const ServedModel& model) {
  std::vector<std::vector<Token>> texts;
  if (value.is_string()) {
    texts.push_back(TRY(text_tokens(model, value.get<std::string>(), path)));
    return texts;
  }
  const std::size_t count = value.is_array() ? value.get_array().size() : 0;
  if (count == 0 || count > kMostTexts) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("'{}' must be a text or an array of 1 to {} texts", path, kMostTexts), path);
  }
  for (std::size_t index = 0; index < count; ++index) {
    const Json& item = value.get_array()[index];
    const std::string place = std::format("{}[{}]", path, index);
    if (!item.is_string()) return fail(ErrorCode::kInvalidArgument, std::format("'{}' must be a text", place), place);
    texts.push_back(TRY(text_tokens(model, item.get<std::string>(), place)));
  }
  return texts;
}

// Texts as parse_texts() reads them, or lists of token ids.
Result<std::vector<std::vector<Token>>> parse_input(Fields& body, const ServedModel& model) {
  const Json* input = body.take("input");
  if (input == nullptr) return body.wrong("input", "is missing");
  const bool is_list = input->is_array() && !input->get_array().empty();
  const Json* first = is_list ? &input->get_array().front() : nullptr;
  const auto tokens_of = [&](const Json& item) -> Result<std::vector<Token>> {
    auto tokens = item.is_array() ? openai::token_list(item.get_array(), model.vocabulary().size()) : std::nullopt;
    if (tokens && !tokens->empty()) return *std::move(tokens);
    return body.wrong("input",
                      std::format("must hold token ids below {} only, where it holds any", model.vocabulary().size()));
  };
  std::vector<std::vector<Token>> texts;
  if (first != nullptr && std::holds_alternative<std::int64_t>(first->data)) {
    texts.push_back(TRY(tokens_of(*input)));
    return texts;
  }
  if (first == nullptr || !first->is_array()) return parse_texts(*input, "input", model);
  if (input->get_array().size() > kMostTexts) {
    return body.wrong("input", std::format("may hold at most {} texts", kMostTexts));
  }
  for (const Json& item : input->get_array()) texts.push_back(TRY(tokens_of(item)));
  return texts;
}

Result<std::size_t> parse_dimensions(Fields& body, const ServedModel& model) {
  const std::uint32_t width = model.model().shape().embedding_width;
  return static_cast<std::size_t>(TRY(body.integer("dimensions", 1, width)).value_or(width));
}

// The first dimensions are an embedding of their own where a model was trained for that (Matryoshka).
void shorten(std::vector<float>& vector, std::size_t dimensions) {
  vector.resize(dimensions);
  engine::normalise(vector);
}

std::string numbers(std::span<const float> vector) {
  std::string text = "[";
  for (const float value : vector) {
    if (text.size() > 1) text += ',';
    // A broken model's: JSON has no such numbers.
    std::format_to(std::back_inserter(text), "{}", std::isfinite(value) ? value : 0.0F);
  }
  return text + "]";
}

// RFC 4648, section 4.
std::string to_base64(ByteSpan bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
    std::uint32_t bits = 0;
    for (std::size_t index = 0; index < 3; ++index) {
      bits = bits << 8U | (index < count ? std::to_integer<std::uint32_t>(bytes[at + index]) : 0);
    }
    for (std::size_t letter = 0; letter < 4; ++letter) {
      text += letter <= count ? kAlphabet[bits >> (18 - 6 * letter) & 63U] : '=';
    }
  }
  return text;
}

// As OpenAI's clients ask for them by default: the floats' bytes, little-endian.
std::string encoded(std::span<const float> vector) {
  static_assert(std::endian::native == std::endian::little);
  return json_string(to_base64(std::as_bytes(vector)));
}

std::string usage(std::size_t tokens) {
  const auto count = static_cast<std::int64_t>(tokens);
  return JsonObject().integer("prompt_tokens", count).integer("total_tokens", count).str();
}

Result<VectorRequest> ollama_request(Fields& body, const ServedModel& model, const Json& input,
                                     const std::string& path) {
  VectorRequest request;
  request.work.pooling = TRY(engine::read_pooling(model.model()));
  request.work.texts = TRY(parse_texts(input, path, model));
  request.work.keep_alive = TRY(ollama::parse_keep_alive(body));
  request.too_long = TooLong::kCut;
  // How the server is set up is its owner's business.
  body.allow({"options"});
  return request;
}

struct Document {
  std::string text;
};

Result<std::vector<Document>> parse_documents(Fields& body) {
  const Json* value = body.take("documents");
  const std::size_t count = value != nullptr && value->is_array() ? value->get_array().size() : 0;
  if (count == 0 || count > kMostTexts) {
    return body.wrong("documents", std::format("must be an array of 1 to {} documents", kMostTexts));
  }
  std::vector<Document> documents;
  for (std::size_t index = 0; index < count; ++index) {
    const Json& item = value->get_array()[index];
    if (item.is_string()) {
      documents.push_back({item.get<std::string>()});
      continue;
    }
    Fields document = TRY(Fields::of(item, std::format("documents[{}]", index)));
    documents.push_back({ TRY(document.required_text("text")) });
    TRY(document.refuse_rest());
  }
  return documents;
}

}  // namespace

Result<VectorRequest> parse_embeddings(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  std::string called = TRY(openai::take_model(body));
  VectorRequest request;
  request.work.pooling = TRY(engine::read_pooling(model.model()));
  const std::size_t dimensions = TRY(parse_dimensions(body, model));
  const std::string encoding = TRY(body.text("encoding_format"))
  .value_or("float");
  if (encoding != "float" && encoding != "base64") return body.wrong("encoding_format", "must be float or base64");
  request.work.texts = TRY(parse_input(body, model));
  body.allow({"user"});
  TRY(body.refuse_rest());
  request.answer = [called = std::move(called), dimensions, in_base64 = encoding == "base64"](Vectors made,
                                                                                              std::size_t tokens) {
    std::vector<std::string> items;
    for (std::size_t index = 0; index < made.size(); ++index) {
      shorten(made[index], dimensions);
      JsonObject item;
      item.text("object", "embedding").integer("index", static_cast<std::int64_t>(index));
      items.push_back(item.raw("embedding", in_base64 ? encoded(made[index]) : numbers(made[index])).str());
    }
    JsonObject answer;
    answer.text("object", "list").raw("data", json_array(items)).text("model", called);
    return answer.raw("usage", usage(tokens)).str();
  };
  return request;
}

Result<VectorRequest> parse_ollama_embed(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  std::string called = TRY(ollama::take_model(body));
  const Json* input = body.take("input");
  if (input == nullptr) return body.wrong("input", "is missing");
  VectorRequest request = TRY(ollama_request(body, model, *input, "input"));
  if (!TRY(body.flag("truncate")).value_or(true)) request.too_long = TooLong::kRefuse;
  const std::size_t dimensions = TRY(parse_dimensions(body, model));
  TRY(body.refuse_rest());
  request.answer = [called = std::move(called), dimensions, begun = now()](Vectors made, std::size_t tokens) {
    std::vector<std::string> items;
    for (std::vector<float>& vector : made) {
      shorten(vector, dimensions);
      items.push_back(numbers(vector));
    }
    JsonObject answer;
    answer.text("model", called).raw("embeddings", json_array(items));
    answer.integer("total_duration", (now() - begun).count()).integer("load_duration", 0);
    return answer.integer("prompt_eval_count", static_cast<std::int64_t>(tokens)).str();
  };
  return request;
}

Result<VectorRequest> parse_ollama_embeddings(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  TRY(ollama::take_model(body));
  const Json* prompt = body.take("prompt");
  if (prompt == nullptr || !prompt->is_string()) return body.wrong("prompt", "must be a text");
  VectorRequest request = TRY(ollama_request(body, model, *prompt, "prompt"));
  TRY(body.refuse_rest());
  request.answer = [](Vectors made, std::size_t) {
    engine::normalise(made.front());
    return JsonObject().raw("embedding", numbers(made.front())).str();
  };
  return request;
}

Result<VectorRequest> parse_rerank(const Json& json, const ServedModel& model) {
  Fields body = TRY(Fields::of(json));
  std::string called = TRY(openai::take_model(body));
  const engine::RankHead head = TRY(engine::RankHead::read(model.model()));
  const std::string query = TRY(body.required_text("query"));
  std::vector<Document> documents = TRY(parse_documents(body));
  const auto count = static_cast<std::int64_t>(documents.size());
  const auto top = static_cast<std::size_t>(TRY(body.integer("top_n", 1, INT64_MAX)).value_or(count));
  const bool with_documents = TRY(body.flag("return_documents"))
  == true;
  TRY(body.refuse_rest());
  VectorRequest request;
  for (const Document& document : documents) {
    request.work.texts.push_back(TRY(model.pair_prompt(query, document.text)));
  }
  request.answer = [called = std::move(called), head, top, with_documents, documents = std::move(documents)](
                       Vectors made, std::size_t tokens) {
    std::vector<float> scores;
    for (const std::vector<float>& row : made) scores.push_back(head.score(row));
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::greater(), [&](std::size_t index) { return scores[index]; });
    order.resize(std::min(order.size(), top));
    std::vector<std::string> results;
    for (const std::size_t index : order) {
      JsonObject result;
      result.integer("index", static_cast<std::int64_t>(index));
      result.number("relevance_score", static_cast<double>(scores[index]));
      if (with_documents) result.raw("document", JsonObject().text("text", documents[index].text).str());
      results.push_back(result.str());
    }
    JsonObject answer;
    answer.text("model", called).text("object", "list").raw("usage", usage(tokens));
    return answer.raw("results", json_array(results)).str();
  };
  return request;
}

}  // namespace baton::serve::vectors
