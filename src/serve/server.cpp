#include "serve/server.h"

#include <algorithm>
#include <atomic>
#include <format>

#include "base/error_table.h"
#include "base/file.h"
#include "base/log.h"
#include "serve/access.h"
#include "serve/anthropic.h"
#include "serve/conversation.h"
#include "serve/json.h"
#include "serve/metrics.h"
#include "serve/ollama.h"
#include "serve/openai.h"
#include "serve/page.h"
#include "serve/responses.h"

namespace baton::serve {

namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kMetricsType = "text/plain; version=0.0.4; charset=utf-8";
constexpr std::size_t kLeastKeyLength = 16;
constexpr std::size_t kMostBodyBytesPerToken = 64;
constexpr std::size_t kLeastBodyBytes = 1 << 20;

// Brings an answer's events from the node's loop to the HTTP server's thread.
class Relay : public AnswerSink {
 public:
  Relay(HttpServer& http, std::shared_ptr<Conversation> conversation, std::size_t choice)
      : http_(http), conversation_(std::move(conversation)), choice_(choice) {}

  void on_begun() override {
    http_.post([conversation = conversation_] { conversation->begun(); });
  }
  void on_piece(Piece piece) override {
    http_.post([conversation = conversation_, choice = choice_, piece = std::move(piece)]() mutable {
      conversation->piece(choice, std::move(piece));
    });
  }
  void on_end(Result<AnswerEnd> end) override {
    http_.post([conversation = conversation_, choice = choice_, end = std::move(end)]() mutable {
      conversation->end(choice, std::move(end));
    });
  }

 private:
  HttpServer& http_;
  const std::shared_ptr<Conversation> conversation_;
  const std::size_t choice_;
};

}  // namespace

struct Server::Impl {
  struct PlanQuestion {
    std::uint32_t prompt_tokens = 0;
    std::uint32_t output_tokens = 0;
  };
  using ErrorBody = std::string (*)(int, const Error&);
  using Parse = Result<ParsedRequest> (*)(const Json&, const ServedModel&);
  using Answer = void (Impl::*)(const HttpRequest&, const std::shared_ptr<HttpReply>&);
  // One of `parse` and `answer`: a request for text, or one that is answered at once.
  struct Route {
    std::string_view method;
    std::string_view path;  // one that ends with '/' stands for all that begin so, but the root for itself alone
    Parse parse = nullptr;
    Answer answer = nullptr;
    ErrorBody error_body = openai::error_body;
  };

  Impl(net::EventLoop& of_loop, node::Node& of_node, std::unique_ptr<const ServedModel> of_model, ServerOptions given)
      : loop(of_loop),
        node(of_node),
        model(std::move(of_model)),
        options(std::move(given)),
        access(is_loopback(options.listen.host) ? Access::Reach::kThisMachine : Access::Reach::kNetwork,
               options.api_keys),
        context_tokens(node.executor().engine().options().context_tokens) {}

  static const std::vector<Route>& routes() {
    static const std::vector<Route> all = {
        {.method = "POST", .path = "/v1/chat/completions", .parse = openai::parse_chat},
        {.method = "POST", .path = "/v1/completions", .parse = openai::parse_completion},
        {.method = "POST", .path = "/v1/responses", .parse = responses::parse},
        {.method = "POST",
         .path = "/v1/messages",
         .parse = anthropic::parse_messages,
         .error_body = anthropic::error_body},
        {.method = "POST",
         .path = "/v1/messages/count_tokens",
         .answer = &Impl::count_tokens,
         .error_body = anthropic::error_body},
        {.method = "POST", .path = "/api/chat", .parse = ollama::parse_chat, .error_body = ollama::error_body},
        {.method = "POST", .path = "/api/generate", .parse = ollama::parse_generate, .error_body = ollama::error_body},
        {.method = "GET", .path = "/api/tags", .answer = &Impl::list_tags},
        {.method = "POST", .path = "/api/show", .answer = &Impl::show_tag, .error_body = ollama::error_body},
        {.method = "GET", .path = "/api/version", .answer = &Impl::show_version},
        {.method = "POST", .path = "/api/plan", .answer = &Impl::explain_plan},
        {.method = "GET", .path = "/api/plan", .answer = &Impl::show_plans},
        {.method = "GET", .path = "/api/cluster", .answer = &Impl::show_cluster},
        {.method = "GET", .path = "/v1/models", .answer = &Impl::list_models},
        {.method = "GET", .path = "/v1/models/", .answer = &Impl::show_model},
        {.method = "GET", .path = "/", .answer = &Impl::show_page},
        {.method = "GET", .path = "/assets/", .answer = &Impl::show_page},
        {.method = "GET", .path = "/health", .answer = &Impl::show_health},
        {.method = "GET", .path = "/ready", .answer = &Impl::show_health},
        {.method = "GET", .path = "/metrics", .answer = &Impl::show_metrics},
    };
    return all;
  }

  static bool matches(const Route& route, std::string_view path) {
    const bool is_folder = route.path.size() > 1 && route.path.ends_with('/');
    return is_folder ? path.starts_with(route.path) && path.size() > route.path.size() : path == route.path;
  }
  // Where one may ask in no such way, `allowed` says how.
  static const Route* find_route(const HttpRequest& request, std::string& allowed) {
    for (const Route& route : routes()) {
      if (!matches(route, request.path)) continue;
      if (route.method == request.method || (route.method == "GET" && request.method == "HEAD")) return &route;
      allowed += allowed.empty() ? route.method : std::format(", {}", route.method);
    }
    return nullptr;
  }

  std::optional<HttpServer::Refusal> refuse(const HttpRequest& request) {
    auto refusal = access.refuse(request);
    std::string allowed;
    if (!refusal && find_route(request, allowed) == nullptr) {
      refusal = allowed.empty() ? HttpServer::Refusal{404, std::format("there is nothing at '{}'", request.path)}
                                : HttpServer::Refusal{
                                      405, std::format("'{}' takes {}", request.path, allowed), {{"Allow", allowed}}};
    }
    if (refusal) metrics.count_http(refusal->status);
    return refusal;
  }

  // Of what is refused before its handler sees it: each API has a form of its own.
  static std::string error_body(std::string_view path, int status, std::string_view message) {
    const Error error{ErrorCode::kInvalidArgument, std::string(message), {}};
    if (path.starts_with("/v1/messages")) return anthropic::error_body(status, error);
    if (path.starts_with("/api/")) return ollama::error_body(status, error);
    return openai::error_body(status, message);
  }

  void handle(HttpRequest request, std::shared_ptr<HttpReply> reply) {
    std::string allowed;
    const Route& route = *find_route(request, allowed);
    if (route.answer != nullptr) return (this->*route.answer)(request, reply);
    auto parsed = parse(route, request);
    if (!parsed) return send_error(*reply, route, parsed.error());
    begin(route, access.client_of(request), *std::move(parsed), std::move(reply));
  }

  Result<ParsedRequest> parse(const Route& route, const HttpRequest& request) const {
    const Json body = TRY(parse_json(request.body));
    ParsedRequest parsed = TRY(route.parse(body, *model));
    CanonicalRequest& asked = parsed.request;
    if (asked.prompts.size() * asked.choices > kMostChoices) {
      return fail(ErrorCode::kInvalidArgument, std::format("at most {} answers may be asked for at once", kMostChoices),
                  "n");
    }
    std::size_t longest = 0;
    for (const auto& prompt : asked.prompts) {
      if (prompt.empty()) return fail(ErrorCode::kInvalidArgument, "the prompt has no tokens", "prompt");
      longest = std::max(longest, prompt.size());
    }
    if (longest >= context_tokens) {
      return fail(ErrorCode::kInvalidArgument,
                  std::format("the prompt has {} tokens, and this server has room for {} with the answer", longest,
                              context_tokens));
    }
    const auto room = context_tokens - static_cast<std::uint32_t>(longest);
    if (asked.max_new_tokens && *asked.max_new_tokens > room) {
      return fail(
          ErrorCode::kInvalidArgument,
          std::format("{} prompt tokens and {} new ones do not fit into this server's context of {}: ask for at "
                      "most {}",
                      longest, *asked.max_new_tokens, context_tokens, room),
          "max_tokens");
    }
    asked.max_new_tokens = asked.max_new_tokens.value_or(std::min(room, options.default_new_tokens));
    // Now rather than when it is its turn.
    TRY(engine::Sampler::create(asked.sampler));
    return parsed;
  }

  void begin(const Route& route, const std::string& client, ParsedRequest parsed, std::shared_ptr<HttpReply> reply) {
    CanonicalRequest asked = std::move(parsed.request);
    parsed.request.prompts.resize(asked.prompts.size());
    parsed.request.choices = asked.choices;
    const auto conversation = std::make_shared<Conversation>(std::move(parsed), std::move(reply), route.error_body,
                                                             [this](int status) { metrics.count_http(status); });
    std::vector<Generator::AnswerId> ids;
    for (std::size_t choice = 0; choice < conversation->choices(); ++choice) {
      const Generator::AnswerId id = next_id++;
      ids.push_back(id);
      AnswerRequest answer{.client = client,
                           .request = options.request,
                           .stops = asked.stops,
                           .marks = asked.marks,
                           .top_logprobs = asked.top_logprobs};
      node::RequestOptions& request = answer.request;
      if (asked.form) request.filter = std::make_shared<text::ConstrainedText>(asked.form);
      request.prompt = asked.prompts[choice / asked.choices];
      request.max_new_tokens = *asked.max_new_tokens;
      request.end_tokens = model->vocabulary().end_tokens();
      request.sampler = asked.sampler;
      // Answers to one prompt draw each its own.
      request.sampler.seed += choice % asked.choices;
      if (asked.penalised == Penalised::kAnswer) {
        request.sampler.penalty_from = static_cast<std::uint32_t>(request.prompt.size());
      }
      auto sink = std::make_shared<Relay>(*http, conversation, choice);
      loop.post([weak = generator_of_http, id, answer = std::move(answer), sink = std::move(sink)]() mutable {
        if (const auto held = weak.lock()) held->start(id, std::move(answer), std::move(sink));
      });
    }
    conversation->on_abandoned([this, ids] {
      loop.post([weak = generator_of_http, ids] {
        const auto held = weak.lock();
        for (const Generator::AnswerId id : ids) {
          if (held) held->cancel(id);
        }
      });
    });
  }

  void send(HttpReply& reply, int status, std::string body, std::string_view type = kJson) {
    metrics.count_http(status);
    reply.send(status, type, std::move(body), headers_for(status));
  }
  void send_error(HttpReply& reply, const Route& route, const Error& error) {
    const int status = http_status(error.code);
    send(reply, status, route.error_body(status, error));
  }

  void show_page(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    metrics.count_http(send_page_file(page_files(), request, *reply));
  }
  void list_models(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    send(*reply, 200, openai::model_list(*model));
  }
  void show_model(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    const std::string wanted = request.path.substr(std::string_view("/v1/models/").size());
    if (wanted == model->id()) return send(*reply, 200, openai::model_entry(*model));
    const Error error{ErrorCode::kNotFound, std::format("the model '{}' is not served here", wanted), "model"};
    send(*reply, 404, openai::error_body(404, error));
  }
  void count_tokens(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    const auto body = parse_json(request.body);
    const auto count = body ? anthropic::count_tokens(*body, *model) : std::unexpected(body.error());
    if (count) return send(*reply, 200, *count);
    const int status = http_status(count.error().code);
    send(*reply, status, anthropic::error_body(status, count.error()));
  }
  void list_tags(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    send(*reply, 200, ollama::model_list(*model));
  }
  void show_tag(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    const auto body = parse_json(request.body);
    const auto shown = body ? ollama::show(*body, *model) : std::unexpected(body.error());
    if (shown) return send(*reply, 200, *shown);
    const int status = http_status(shown.error().code);
    send(*reply, status, ollama::error_body(status, shown.error()));
  }
  void show_version(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    send(*reply, 200, JsonObject().text("version", options.version).str());
  }
  void show_health(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    send(*reply, 200, R"({"status":"ok"})");
  }
  // Answers on the HTTP server's thread with what `ask` says on the loop's.
  void ask_planner(const std::shared_ptr<HttpReply>& reply,
                   std::move_only_function<Result<std::string>(AnswerPlanner&)> ask) {
    loop.post([this, weak = generator_of_http, reply, ask = std::move(ask)]() mutable {
      // Where the generator still is, so is all of this.
      const auto held = weak.lock();
      if (!held) return;
      Result<std::string> said = fail(ErrorCode::kNotFound, "nothing is planned here: this server knows no cluster");
      if (options.planner != nullptr) said = ask(*options.planner);
      http->post([this, reply = std::move(reply), said = std::move(said)] {
        if (said) return send(*reply, 200, *said);
        const int status = http_status(said.error().code);
        send(*reply, status, openai::error_body(status, said.error()));
      });
    });
  }
  Result<PlanQuestion> plan_question(const HttpRequest& request) const {
    const Json body = TRY(parse_json(request.body));
    Fields fields = TRY(Fields::of(body));
    PlanQuestion question;
    const auto prompt = TRY(fields.integer("prompt_tokens", 1, context_tokens));
    if (!prompt) return fields.wrong("prompt_tokens", "is needed: how many tokens are to be read");
    question.prompt_tokens = static_cast<std::uint32_t>(*prompt);
    const auto output = TRY(fields.integer("output_tokens", 1, context_tokens));
    question.output_tokens = static_cast<std::uint32_t>(output.value_or(options.default_new_tokens));
    TRY(fields.refuse_rest());
    return question;
  }
  void explain_plan(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    const auto question = plan_question(request);
    if (!question) {
      const int status = http_status(question.error().code);
      return send(*reply, status, openai::error_body(status, question.error()));
    }
    ask_planner(reply, [asked = *question](AnswerPlanner& planner) {
      return planner.explain(asked.prompt_tokens, asked.output_tokens);
    });
  }
  void show_plans(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    ask_planner(reply, [](AnswerPlanner& planner) { return planner.latest(); });
  }
  void show_cluster(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    ask_planner(reply, [](AnswerPlanner& planner) { return planner.cluster(); });
  }
  void show_metrics(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    loop.post([this, weak = generator_of_http, reply]() mutable {
      // Where the generator still is, so is all of this.
      const auto held = weak.lock();
      if (!held) return;
      held->measure();
      http->post([this, reply = std::move(reply)] { send(*reply, 200, metrics.to_text(), kMetricsType); });
    });
  }

  net::EventLoop& loop;
  node::Node& node;
  const std::unique_ptr<const ServedModel> model;
  const ServerOptions options;
  const Access access;
  const std::uint32_t context_tokens;
  Metrics metrics;
  std::shared_ptr<Generator> generator;        // on the loop's thread
  std::weak_ptr<Generator> generator_of_http;  // the same, on the HTTP server's thread, to be used on the loop's
  std::uint64_t next_id = 1;                   // on the HTTP server's thread
  std::unique_ptr<HttpServer> http;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::start(net::EventLoop& loop, node::Node& node,
                                              std::unique_ptr<const ServedModel> model, ServerOptions options) {
  if (!is_loopback(options.listen.host) && options.api_keys.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("{} can be reached from other machines: give the keys of those who may ask with "
                            "--api-key-file, or listen on 127.0.0.1",
                            options.listen.to_string()));
  }
  auto impl = std::make_unique<Impl>(loop, node, std::move(model), std::move(options));
  impl->generator = std::make_shared<Generator>(loop, node, impl->model->vocabulary(), impl->options.generator,
                                                impl->metrics, impl->options.planner);
  impl->generator_of_http = impl->generator;
  HttpServer::Options http;
  http.listen = impl->options.listen;
  http.limits = impl->options.http;
  Impl* const raw = impl.get();
  // Requests may come before `http` is assigned: they wait for it.
  auto ready = std::make_shared<std::atomic<bool>>(false);
  http.handler = [raw, ready](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    ready->wait(false);
    raw->handle(std::move(request), std::move(reply));
  };
  http.error_body = Impl::error_body;
  // No prompt that fits takes more; it is read into memory before its tokens are counted.
  http.limits.body_bytes = std::clamp(impl->context_tokens * kMostBodyBytesPerToken,
                                      std::min(kLeastBodyBytes, http.limits.body_bytes), http.limits.body_bytes);
  http.gate = [raw](const HttpRequest& request) { return raw->refuse(request); };
  impl->http = TRY(HttpServer::start(std::move(http)));
  ready->store(true);
  ready->notify_all();
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() {
  // Its answers say farewell by the HTTP server.
  impl_->generator.reset();
  impl_->http.reset();
}

net::Endpoint Server::endpoint() const { return impl_->http->endpoint(); }

Result<std::vector<std::string>> read_api_keys(const std::string& path) {
  const std::string text = TRY(read_text_file(path));
  std::vector<std::string> keys;
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty() || line.starts_with('#')) continue;
    if (line.size() < kLeastKeyLength) {
      return fail(
          ErrorCode::kInvalidArgument,
          std::format("the key in line {} has fewer than {} characters and could be guessed", number, kLeastKeyLength),
          path);
    }
    keys.push_back(std::move(line));
  }
  if (keys.empty()) return fail(ErrorCode::kNotFound, "there is no key in this file", path);
  return keys;
}

}  // namespace baton::serve
