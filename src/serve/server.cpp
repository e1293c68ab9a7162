#include "serve/server.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <format>

#include "base/error_table.h"
#include "base/log.h"
#include "serve/access.h"
#include "serve/anthropic.h"
#include "serve/conversation.h"
#include "serve/embedder.h"
#include "serve/fitting.h"
#include "serve/json.h"
#include "serve/metrics.h"
#include "serve/ollama.h"
#include "serve/openai.h"
#include "serve/page.h"
#include "serve/responses.h"
#include "serve/task_worker.h"
#include "serve/vectors.h"

namespace baton::serve {

namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kMetricsType = "text/plain; version=0.0.4; charset=utf-8";
constexpr std::size_t kMostBodyBytesPerToken = 64;
constexpr std::size_t kLeastBodyBytes = 1 << 20;

bool reached_from_elsewhere(const ServerOptions& options) {
  return !is_loopback(options.listen.host) ||
         std::ranges::any_of(options.listen_too, [](const auto& endpoint) { return !is_loopback(endpoint.host); });
}

}  // namespace

struct Server::Impl {
  struct Entry;
  struct PlanQuestion {
    const Entry* entry = nullptr;
    std::uint32_t prompt_tokens = 0;
    std::uint32_t output_tokens = 0;
  };
  using ErrorBody = std::string (*)(int, const Error&);
  using Parse = Result<ParsedRequest> (*)(const Json&, const ServedModel&);
  using ParseVectors = Result<vectors::VectorRequest> (*)(const Json&, const ServedModel&);
  using Tell = Result<std::string> (*)(const Json&, const ServedModel&);
  using Answer = void (Impl::*)(const HttpRequest&, const std::shared_ptr<HttpReply>&);
  // One of the four: a request for text, one for vectors, one about the model, or one that is answered at once.
  struct Route {
    std::string_view method;
    std::string_view path;  // one that ends with '/' stands for all that begin so, but the root for itself alone
    Parse parse = nullptr;  // these three on the worker's thread
    ParseVectors parse_vectors = nullptr;
    Tell tell = nullptr;
    Answer answer = nullptr;
    ErrorBody error_body = openai::error_body;
  };

  // A model, and who answers with it. The vector of them changes no more once there is an HTTP server; any thread may
  // see what is served and hold the weak pointers, which are for the loop's.
  struct Entry {
    ServerModel model;
    std::shared_ptr<Generator> generator;  // on the loop's thread
    std::shared_ptr<Embedder> embedder;    // likewise
    std::weak_ptr<Generator> generator_elsewhere = {};
    std::weak_ptr<Embedder> embedder_elsewhere = {};

    const ServedModel& served() const { return *model.served; }
  };

  // What a body asks for, and of which model.
  template <typename What>
  struct Asked {
    const Entry* entry = nullptr;
    What what;
  };

  Impl(net::EventLoop& of_loop, std::vector<ServerModel> of_models, ServerOptions given)
      : loop(of_loop),
        options(std::move(given)),
        access(reach(), keys(), options.origins),
        context_tokens(of_models.front().source->engine_options().context_tokens) {
    const EmbedderLimits limits{.waiting = options.generator.waiting + 1,
                                .waiting_time = options.generator.waiting_time};
    for (ServerModel& model : of_models) {
      auto generator = std::make_shared<Generator>(loop, *model.source, model.served->vocabulary(), options.generator,
                                                   metrics, model.planner);
      auto embedder = Embedder::create(loop, *model.source, limits, metrics);
      models.push_back({.model = std::move(model),
                        .generator = generator,
                        .embedder = embedder,
                        .generator_elsewhere = generator,
                        .embedder_elsewhere = embedder});
    }
  }

  Access::Reach reach() const {
    return reached_from_elsewhere(options) ? Access::Reach::kNetwork : Access::Reach::kThisMachine;
  }
  Room room() const { return {.context_tokens = context_tokens, .default_new_tokens = options.default_new_tokens}; }
  std::optional<KeyRing> keys() const {
    if (reach() == Access::Reach::kNetwork) return KeyRing(options.api_keys, options.key_book);
    if (options.api_keys.empty()) return std::nullopt;
    return KeyRing(options.api_keys, {});
  }

  static const std::vector<Route>& routes() {
    static const std::vector<Route> all = {
        {.method = "POST", .path = "/v1/chat/completions", .parse = openai::parse_chat},
        {.method = "POST", .path = "/v1/completions", .parse = openai::parse_completion},
        {.method = "POST", .path = "/v1/responses", .parse = responses::parse},
        {.method = "POST", .path = "/v1/embeddings", .parse_vectors = vectors::parse_embeddings},
        {.method = "POST", .path = "/v1/rerank", .parse_vectors = vectors::parse_rerank},
        {.method = "POST",
         .path = "/v1/messages",
         .parse = anthropic::parse_messages,
         .error_body = anthropic::error_body},
        {.method = "POST",
         .path = "/v1/messages/count_tokens",
         .tell = anthropic::count_tokens,
         .error_body = anthropic::error_body},
        {.method = "POST", .path = "/api/chat", .parse = ollama::parse_chat, .error_body = ollama::error_body},
        {.method = "POST", .path = "/api/generate", .parse = ollama::parse_generate, .error_body = ollama::error_body},
        {.method = "POST",
         .path = "/api/embed",
         .parse_vectors = vectors::parse_ollama_embed,
         .error_body = ollama::error_body},
        {.method = "POST",
         .path = "/api/embeddings",
         .parse_vectors = vectors::parse_ollama_embeddings,
         .error_body = ollama::error_body},
        {.method = "GET", .path = "/api/tags", .answer = &Impl::list_tags, .error_body = ollama::error_body},
        {.method = "GET", .path = "/api/ps", .answer = &Impl::list_running, .error_body = ollama::error_body},
        {.method = "POST", .path = "/api/show", .tell = ollama::show, .error_body = ollama::error_body},
        {.method = "GET", .path = "/api/version", .answer = &Impl::show_version},
        {.method = "POST", .path = "/api/plan", .answer = &Impl::explain_plan},
        {.method = "GET", .path = "/api/plan", .answer = &Impl::show_plans},
        {.method = "GET", .path = "/api/cluster", .answer = &Impl::show_cluster},
        {.method = "GET", .path = "/v1/models", .answer = &Impl::list_models},
        {.method = "GET", .path = "/v1/models/", .answer = &Impl::show_model},
        // Also that by which Ollama's command line sees that somebody listens.
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
    if (!refusal && !access.is_preflight(request) && find_route(request, allowed) == nullptr) {
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
    if (access.is_preflight(request)) return send(*reply, 204, {});
    std::string allowed;
    const Route& route = *find_route(request, allowed);
    if (route.answer != nullptr) return (this->*route.answer)(request, reply);
    std::string client = access.client_of(request);
    if (route.tell != nullptr) {
      return work<std::string>(
          client, std::move(request), std::move(reply), route,
          [this, &route](const std::string& text) -> Result<std::string> {
            const Json body = TRY(parse_json(text));
            return route.tell(body, TRY(entry_for(body))->served());
          },
          [this](std::string told, std::shared_ptr<HttpReply> to) { send(*to, 200, std::move(told)); });
    }
    if (route.parse_vectors != nullptr) {
      return work<Asked<vectors::VectorRequest>>(
          client, std::move(request), std::move(reply), route,
          [this, &route](const std::string& body) { return parse_vectors(route, body); },
          [this, &route, client](Asked<vectors::VectorRequest> asked, std::shared_ptr<HttpReply> to) {
            begin_vectors(route, client, *asked.entry, std::move(asked.what), std::move(to));
          });
    }
    work<Asked<ParsedRequest>>(
        client, std::move(request), std::move(reply), route,
        [this, &route](const std::string& body) { return parse(route, body); },
        [this, &route, client](Asked<ParsedRequest> asked, std::shared_ptr<HttpReply> to) {
          if (asked.what.load) return load(route, *asked.entry, *std::move(asked.what.load), std::move(to));
          begin(route, client, *asked.entry, std::move(asked.what), std::move(to));
        });
  }

  // Makes something of a body on the worker's thread, and goes on with it on this one, where the client is still there.
  template <typename Made, typename Make, typename GoOn>
  void work(const std::string& client, HttpRequest request, std::shared_ptr<HttpReply> reply, const Route& route,
            Make make, GoOn go_on) {
    const auto wanted = std::make_shared<std::atomic<bool>>(true);
    reply->on_gone([wanted] { *wanted = false; });
    TaskWorker::Task task;
    task.wanted = [wanted] { return wanted->load(); };
    task.run = [this, request = std::move(request), reply, &route, make = std::move(make),
                go_on = std::move(go_on)](TaskWorker::Turn turn) mutable {
      Result<Made> made = fail(ErrorCode::kNoCapacity, "the request was not read in time: come back later");
      // What one request asks too much for (memory, say) ends with it, and not with the server.
      try {
        if (turn == TaskWorker::Turn::kInTime) made = make(request.body);
      } catch (const std::exception& error) {
        made = fail(ErrorCode::kInternal, std::format("the request could not be read: {}", error.what()));
      }
      http->post([this, reply = std::move(reply), &route, made = std::move(made), go_on = std::move(go_on)]() mutable {
        if (reply->gone()) return;
        if (!made) return send_error(*reply, route, made.error());
        try {
          go_on(*std::move(made), reply);
        } catch (const std::exception& error) {
          send_error(*reply, route, {ErrorCode::kInternal, error.what(), {}});
        }
      });
    };
    if (const auto accepted = worker->submit(client, std::move(task)); !accepted) {
      send_error(*reply, route, accepted.error());
    }
  }

  // The model that the body names. Where it names none, its parser says so, whichever the model.
  Result<const Entry*> entry_for(const Json& body) const {
    const std::string wanted = named_model(body);
    if (wanted.empty() || models.size() == 1) return &models.front();
    std::string known;
    for (const Entry& entry : models) {
      const std::string& id = entry.served().id();
      if (wanted == id || wanted == id + ":latest") return &entry;
      known += std::format("{}'{}'", known.empty() ? "" : ", ", id);
    }
    return fail(ErrorCode::kNotFound, std::format("model '{}' not found; this server has {}", wanted, known), "model");
  }

  static std::string named_model(const Json& body) {
    auto fields = Fields::of(body);
    if (!fields) return "";
    const Json* name = fields->take("model");
    // Older clients of Ollama's call it so.
    if (name == nullptr) name = fields->take("name");
    return name != nullptr && name->is_string() ? name->get<std::string>() : "";
  }

  Result<Asked<vectors::VectorRequest>> parse_vectors(const Route& route, const std::string& text) const {
    const Json body = TRY(parse_json(text));
    const Entry* const entry = TRY(entry_for(body));
    vectors::VectorRequest asked = TRY(route.parse_vectors(body, entry->served()));
    TRY(fit(asked, room(), entry->served().tokenizer().end_sequence()));
    return Asked{entry, std::move(asked)};
  }

  // Computes on the loop's thread, writes the answer on the worker's, sends it on this one.
  void begin_vectors(const Route& route, const std::string& client, const Entry& entry, vectors::VectorRequest asked,
                     std::shared_ptr<HttpReply> reply) {
    const Embedder::Id id = next_id++;
    reply->on_gone([this, &entry, id] {
      loop.post([weak = entry.embedder_elsewhere, id] {
        if (const auto held = weak.lock()) held->cancel(id);
      });
    });
    std::size_t tokens = 0;
    for (const std::vector<Token>& text : asked.work.texts) tokens += text.size();
    auto done = [this, &route, client, tokens, reply = std::move(reply),
                 answer = std::move(asked.answer)](Result<Vectors> made) mutable {
      http->post([this, &route, client, tokens, reply = std::move(reply), answer = std::move(answer),
                  made = std::move(made)]() mutable {
        if (reply->gone()) return;
        if (!made) return send_error(*reply, route, made.error());
        work<std::string>(
            client, HttpRequest(), std::move(reply), route,
            [answer = std::move(answer), tokens, vectors = *std::move(made)](
                const std::string&) mutable -> Result<std::string> { return answer(std::move(vectors), tokens); },
            [this](std::string body, std::shared_ptr<HttpReply> to) { send(*to, 200, std::move(body)); });
      });
    };
    loop.post([weak = entry.embedder_elsewhere, id, work = std::move(asked.work), done = std::move(done)]() mutable {
      if (const auto held = weak.lock()) held->start(id, std::move(work), std::move(done));
    });
  }

  Result<Asked<ParsedRequest>> parse(const Route& route, const std::string& text) const {
    const Json body = TRY(parse_json(text));
    const Entry* const entry = TRY(entry_for(body));
    ParsedRequest parsed = TRY(route.parse(body, entry->served()));
    if (parsed.load) return Asked{entry, std::move(parsed)};
    // Now rather than when it is its turn.
    TRY(fit(parsed.request, room()));
    return Asked{entry, std::move(parsed)};
  }

  // Answers when the model is loaded, or about to go where the client wants that.
  void load(const Route& route, const Entry& entry, LoadWish wish, std::shared_ptr<HttpReply> reply) {
    loop.post([this, &route, weak = entry.generator_elsewhere, wish = std::move(wish),
               reply = std::move(reply)]() mutable {
      // Where the generator still is, so is all of this.
      const auto held = weak.lock();
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

  void begin(const Route& route, const std::string& client, const Entry& entry, ParsedRequest parsed,
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
                           .group = ids.front(),
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
      request.end_tokens.insert(request.end_tokens.end(), asked.further_end_tokens.begin(),
                                asked.further_end_tokens.end());
      request.sampler = asked.sampler;
      // Answers to one prompt draw each its own.
      request.sampler.seed += choice % asked.choices;
      if (asked.penalised == Penalised::kAnswer) {
        request.sampler.penalty_from = static_cast<std::uint32_t>(request.prompt.size());
      }
      auto sink = relay_to(*http, conversation, choice);
      loop.post([weak = entry.generator_elsewhere, id, answer = std::move(answer), sink = std::move(sink)]() mutable {
        if (const auto held = weak.lock()) held->start(id, std::move(answer), std::move(sink));
      });
    }
    conversation->on_abandoned([this, &entry, ids] {
      loop.post([weak = entry.generator_elsewhere, ids] {
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
    std::vector<const ServedModel*> served;
    for (const Entry& entry : models) served.push_back(&entry.served());
    send(*reply, 200, openai::model_list(served));
  }
  void show_model(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    const std::string wanted = percent_decoded(request.path.substr(std::string_view("/v1/models/").size()));
    for (const Entry& entry : models) {
      if (wanted == entry.served().id()) return send(*reply, 200, openai::model_entry(entry.served()));
    }
    const Error error{ErrorCode::kNotFound, std::format("the model '{}' is not served here", wanted), "model"};
    send(*reply, 404, openai::error_body(404, error));
  }
  void list_tags(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    ask_loop(reply, ollama::error_body, [this]() -> Result<std::string> {
      std::vector<ollama::ListedModel> listed;
      for (const Entry& entry : models) listed.push_back(listed_now(entry));
      return ollama::model_list(listed);
    });
  }
  void list_running(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    ask_loop(reply, ollama::error_body, [this]() -> Result<std::string> {
      std::vector<ollama::RunningModel> running;
      for (const Entry& entry : models) {
        const node::PooledModel& model = *entry.model.source;
        if (model.loaded() == nullptr) continue;
        running.push_back({.listed = listed_now(entry),
                           .bytes = model.bytes(),
                           .expires_in = model.expires_in(),
                           .context_tokens = context_tokens});
      }
      return ollama::running_list(running);
    });
  }
  // On the loop's thread.
  static ollama::ListedModel listed_now(const Entry& entry) {
    const std::optional<Sha256>& digest = entry.model.source->digest();
    return {.model = &entry.served(), .digest = digest ? digest->hex() : ""};
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
    loop.post([this, weak = models.front().generator_elsewhere, reply, error_as, ask = std::move(ask)]() mutable {
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
  Result<PlanQuestion> plan_question(const HttpRequest& request) const {
    // Read on this thread, which serves everybody.
    static constexpr std::size_t kMostBytes = 4096;
    if (request.body.size() > kMostBytes) {
      return fail(ErrorCode::kInvalidArgument, std::format("such a question has at most {} bytes", kMostBytes));
    }
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
    loop.post([this, weak = models.front().generator_elsewhere, reply]() mutable {
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
  Access access;  // on the HTTP server's thread
  const std::uint32_t context_tokens;
  Metrics metrics;
  std::vector<Entry> models;
  std::uint64_t next_id = 1;  // on the HTTP server's thread
  std::unique_ptr<TaskWorker> worker;
  std::unique_ptr<HttpServer> http;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<void> Server::check(const ServerOptions& options) {
  if (!reached_from_elsewhere(options) || !options.api_keys.empty()) return {};
  if (!TRY(read_key_book(options.key_book)).empty()) return {};
  return fail(ErrorCode::kInvalidArgument,
              std::format("{} can be reached from other machines, and there is no key yet: make one with 'baton key "
                          "create NAME', name a file of keys with --api-key-file, or listen on 127.0.0.1",
                          options.listen.to_string()));
}

Result<std::unique_ptr<Server>> Server::start(net::EventLoop& loop, std::vector<ServerModel> models,
                                              ServerOptions options) {
  TRY(check(options));
  auto impl = std::make_unique<Impl>(loop, std::move(models), std::move(options));
  HttpServer::Options http;
  http.listen = impl->options.listen;
  http.listen_too = impl->options.listen_too;
  http.limits = impl->options.http;
  Impl* const raw = impl.get();
  impl->worker = std::make_unique<TaskWorker>(TaskWorker::Limits{});
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
  http.common_headers = [raw](const HttpRequest& request) { return raw->access.headers_for(request); };
  http.gate = [raw](const HttpRequest& request) { return raw->refuse(request); };
  impl->http = TRY(HttpServer::start(std::move(http)));
  ready->store(true);
  ready->notify_all();
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() {
  // Its answers say farewell by the HTTP server.
  for (Impl::Entry& entry : impl_->models) {
    entry.generator.reset();
    entry.embedder.reset();
  }
  // What it makes goes by the HTTP server, which still asks it.
  impl_->worker->close();
  impl_->http.reset();
}

net::Endpoint Server::endpoint() const { return impl_->http->endpoint(); }

}  // namespace baton::serve
