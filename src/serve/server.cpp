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
  struct Entry;
  struct PlanQuestion {
    Entry* entry = nullptr;
    std::uint32_t prompt_tokens = 0;
    std::uint32_t output_tokens = 0;
  };
  using ErrorBody = std::string (*)(int, const Error&);
  using Parse = Result<ParsedRequest> (*)(const Json&, const ServedModel&);
  using ParseLoad = Result<std::optional<LoadWish>> (*)(const Json&, const ServedModel&);
  using Answer = void (Impl::*)(const HttpRequest&, const std::shared_ptr<HttpReply>&);
  // One of `parse` and `answer`: a request for text, or one that is answered at once.
  struct Route {
    std::string_view method;
    std::string_view path;  // one that ends with '/' stands for all that begin so
    Parse parse = nullptr;
    ParseLoad parse_load = nullptr;  // asked first, where there is one
    Answer answer = nullptr;
    ErrorBody error_body = openai::error_body;
  };

  // A model, and who answers with it. The vector of them changes no more once there is an HTTP server.
  struct Entry {
    ServerModel model;
    std::shared_ptr<Generator> generator;             // on the loop's thread
    std::weak_ptr<Generator> generator_of_http = {};  // the same, on the HTTP server's thread, to be used on the loop's

    const ServedModel& served() const { return *model.served; }
  };

  Impl(net::EventLoop& of_loop, std::vector<ServerModel> of_models, ServerOptions given)
      : loop(of_loop),
        options(std::move(given)),
        access(is_loopback(options.listen.host) ? Access::Reach::kThisMachine : Access::Reach::kNetwork,
               options.api_keys),
        context_tokens(of_models.front().source->engine_options().context_tokens) {
    for (ServerModel& model : of_models) {
      auto generator = std::make_shared<Generator>(loop, *model.source, model.served->vocabulary(), options.generator,
                                                   metrics, model.planner);
      models.push_back({.model = std::move(model), .generator = generator, .generator_of_http = generator});
    }
  }

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
        {.method = "POST",
         .path = "/api/chat",
         .parse = ollama::parse_chat,
         .parse_load = ollama::parse_chat_load,
         .error_body = ollama::error_body},
        {.method = "POST",
         .path = "/api/generate",
         .parse = ollama::parse_generate,
         .parse_load = ollama::parse_generate_load,
         .error_body = ollama::error_body},
        {.method = "GET", .path = "/api/tags", .answer = &Impl::list_tags},
        {.method = "GET", .path = "/api/ps", .answer = &Impl::list_running, .error_body = ollama::error_body},
        {.method = "POST", .path = "/api/show", .answer = &Impl::show_tag, .error_body = ollama::error_body},
        {.method = "GET", .path = "/api/version", .answer = &Impl::show_version},
        {.method = "POST", .path = "/api/plan", .answer = &Impl::explain_plan},
        {.method = "GET", .path = "/api/plan", .answer = &Impl::show_plans},
        {.method = "GET", .path = "/api/cluster", .answer = &Impl::show_cluster},
        {.method = "GET", .path = "/v1/models", .answer = &Impl::list_models},
        {.method = "GET", .path = "/v1/models/", .answer = &Impl::show_model},
        {.method = "GET", .path = "/health", .answer = &Impl::show_health},
        {.method = "GET", .path = "/ready", .answer = &Impl::show_health},
        {.method = "GET", .path = "/metrics", .answer = &Impl::show_metrics},
    };
    return all;
  }

  static bool matches(const Route& route, std::string_view path) {
    return route.path.ends_with('/') ? path.starts_with(route.path) && path.size() > route.path.size()
                                     : path == route.path;
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
    const auto body = parse_json(request.body);
    if (!body) return send_error(*reply, route, body.error());
    const auto entry = entry_for(*body);
    if (!entry) return send_error(*reply, route, entry.error());
    if (route.parse_load != nullptr) {
      auto wish = route.parse_load(*body, (*entry)->served());
      if (!wish) return send_error(*reply, route, wish.error());
      if (*wish) return load(route, **entry, **std::move(wish), std::move(reply));
    }
    auto parsed = parse(route, *body, (*entry)->served());
    if (!parsed) return send_error(*reply, route, parsed.error());
    begin(route, access.client_of(request), **entry, *std::move(parsed), std::move(reply));
  }

  // The model that the body names. Where it names none, its parser says so, whichever the model.
  Result<Entry*> entry_for(const Json& body) {
    const std::string wanted = named_model(body);
    if (wanted.empty() || models.size() == 1) return &models.front();
    std::string known;
    for (Entry& entry : models) {
      const std::string& id = entry.served().id();
      if (wanted == id || wanted == id + ":latest") return &entry;
      known += std::format("{}'{}'", known.empty() ? "" : ", ", id);
    }
    return fail(ErrorCode::kNotFound, std::format("model '{}' not found; this server has {}", wanted, known), "model");
  }

  static std::string named_model(const Json& body) {
    auto fields = Fields::of(body);
    const Json* name = fields ? fields->take("model") : nullptr;
    return name != nullptr && name->is_string() ? name->get<std::string>() : "";
  }

  Result<ParsedRequest> parse(const Route& route, const Json& body, const ServedModel& model) const {
    ParsedRequest parsed = TRY(route.parse(body, model));
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

  // Answers when the model is loaded, or about to go where the client wants that.
  void load(const Route& route, Entry& entry, LoadWish wish, std::shared_ptr<HttpReply> reply) {
    loop.post([this, &route, &entry, wish = std::move(wish), reply = std::move(reply)]() mutable {
      // Where the generator still is, so is all of this.
      const auto held = entry.generator_of_http.lock();
      if (!held) return;
      auto done = [this, &route, reply = std::move(reply),
                   answer = std::move(wish.answer)](Result<void> loaded) mutable {
        http->post([this, &route, reply = std::move(reply), answer = std::move(answer), loaded = std::move(loaded)] {
          if (!loaded) return send_error(*reply, route, loaded.error());
          send(*reply, 200, answer);
        });
      };
      if (wish.keep_alive != Duration::zero()) return held->load(wish.keep_alive, std::move(done));
      held->model().keep_alive(Duration::zero());
      done({});
    });
  }

  void begin(const Route& route, const std::string& client, Entry& entry, ParsedRequest parsed,
             std::shared_ptr<HttpReply> reply) {
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
                           .request = entry.model.request,
                           .stops = asked.stops,
                           .marks = asked.marks,
                           .top_logprobs = asked.top_logprobs,
                           .keep_alive = asked.keep_alive};
      node::RequestOptions& request = answer.request;
      if (asked.form) request.filter = std::make_shared<text::ConstrainedText>(asked.form);
      request.prompt = asked.prompts[choice / asked.choices];
      request.max_new_tokens = *asked.max_new_tokens;
      request.end_tokens = entry.served().vocabulary().end_tokens();
      request.sampler = asked.sampler;
      // Answers to one prompt draw each its own.
      request.sampler.seed += choice % asked.choices;
      if (asked.penalised == Penalised::kAnswer) {
        request.sampler.penalty_from = static_cast<std::uint32_t>(request.prompt.size());
      }
      auto sink = std::make_shared<Relay>(*http, conversation, choice);
      loop.post([weak = entry.generator_of_http, id, answer = std::move(answer), sink = std::move(sink)]() mutable {
        if (const auto held = weak.lock()) held->start(id, std::move(answer), std::move(sink));
      });
    }
    conversation->on_abandoned([this, &entry, ids] {
      loop.post([weak = entry.generator_of_http, ids] {
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

  std::vector<const ServedModel*> served_models() const {
    std::vector<const ServedModel*> served;
    for (const Entry& entry : models) served.push_back(&entry.served());
    return served;
  }
  void list_models(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    send(*reply, 200, openai::model_list(served_models()));
  }
  void show_model(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    const std::string wanted = request.path.substr(std::string_view("/v1/models/").size());
    for (const Entry& entry : models) {
      if (wanted == entry.served().id()) return send(*reply, 200, openai::model_entry(entry.served()));
    }
    const Error error{ErrorCode::kNotFound, std::format("the model '{}' is not served here", wanted), "model"};
    send(*reply, 404, openai::error_body(404, error));
  }
  // What a model says to the body that names it.
  using Say = Result<std::string> (*)(const Json&, const ServedModel&);
  void say(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply, Say what, ErrorBody error_as) {
    const auto said = [&]() -> Result<std::string> {
      const Json body = TRY(parse_json(request.body));
      return what(body, TRY(entry_for(body))->served());
    }();
    if (said) return send(*reply, 200, *said);
    const int status = http_status(said.error().code);
    send(*reply, status, error_as(status, said.error()));
  }
  void count_tokens(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    say(request, reply, anthropic::count_tokens, anthropic::error_body);
  }
  void list_tags(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    send(*reply, 200, ollama::model_list(served_models()));
  }
  void show_tag(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    say(request, reply, ollama::show, ollama::error_body);
  }
  void list_running(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    ask_loop(reply, ollama::error_body, [this]() -> Result<std::string> {
      std::vector<ollama::RunningModel> running;
      for (const Entry& entry : models) {
        const node::PooledModel& model = *entry.model.source;
        if (model.loaded() == nullptr) continue;
        running.push_back({.model = &entry.served(),
                           .digest = model.digest()->hex(),
                           .bytes = model.bytes(),
                           .expires_in = model.expires_in(),
                           .context_tokens = context_tokens});
      }
      return ollama::running_list(running);
    });
  }
  void show_version(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    send(*reply, 200, JsonObject().text("version", options.version).str());
  }
  void show_health(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    send(*reply, 200, R"({"status":"ok"})");
  }
  // Answers on the HTTP server's thread with what `ask` says on the loop's.
  void ask_loop(const std::shared_ptr<HttpReply>& reply, ErrorBody error_as,
                std::move_only_function<Result<std::string>()> ask) {
    loop.post([this, weak = models.front().generator_of_http, reply, error_as, ask = std::move(ask)]() mutable {
      // Where a generator still is, so is all of this.
      const auto held = weak.lock();
      if (!held) return;
      http->post([this, reply = std::move(reply), error_as, said = ask()] {
        if (said) return send(*reply, 200, *said);
        const int status = http_status(said.error().code);
        send(*reply, status, error_as(status, said.error()));
      });
    });
  }
  static std::unexpected<Error> nothing_planned() {
    return fail(ErrorCode::kNotFound, "nothing is planned here: this server knows no cluster");
  }
  Result<PlanQuestion> plan_question(const HttpRequest& request) {
    const Json body = TRY(parse_json(request.body));
    Fields fields = TRY(Fields::of(body));
    PlanQuestion question;
    fields.allow({"model"});
    question.entry = TRY(entry_for(body));
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
    ask_loop(reply, openai::error_body, [asked = *question]() -> Result<std::string> {
      AnswerPlanner* const planner = asked.entry->model.planner;
      if (planner == nullptr) return nothing_planned();
      return planner->explain(asked.prompt_tokens, asked.output_tokens);
    });
  }
  void show_plans(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    ask_loop(reply, openai::error_body, [this]() -> Result<std::string> {
      if (options.cluster == nullptr) return nothing_planned();
      return options.cluster->latest();
    });
  }
  void show_cluster(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    ask_loop(reply, openai::error_body, [this]() -> Result<std::string> {
      if (options.cluster == nullptr) return nothing_planned();
      return options.cluster->cluster();
    });
  }
  void show_metrics(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    loop.post([this, weak = models.front().generator_of_http, reply]() mutable {
      // Where a generator still is, so is all of this.
      const auto held = weak.lock();
      if (!held) return;
      ServerLoad load;
      for (const Entry& entry : models) load += entry.generator->load_now();
      metrics.set_load(load);
      http->post([this, reply = std::move(reply)] { send(*reply, 200, metrics.to_text(), kMetricsType); });
    });
  }

  net::EventLoop& loop;
  const ServerOptions options;
  const Access access;
  const std::uint32_t context_tokens;
  Metrics metrics;
  std::vector<Entry> models;
  std::uint64_t next_id = 1;  // on the HTTP server's thread
  std::unique_ptr<HttpServer> http;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::start(net::EventLoop& loop, std::vector<ServerModel> models,
                                              ServerOptions options) {
  if (!is_loopback(options.listen.host) && options.api_keys.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                std::format("{} can be reached from other machines: give the keys of those who may ask with "
                            "--api-key-file, or listen on 127.0.0.1",
                            options.listen.to_string()));
  }
  auto impl = std::make_unique<Impl>(loop, std::move(models), std::move(options));
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
  for (Impl::Entry& entry : impl_->models) entry.generator.reset();
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
