#include "serve/server.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <format>
#include <map>

#include "base/error_table.h"
#include "base/log.h"
#include "net/loopback.h"
#include "serve/access.h"
#include "serve/anthropic.h"
#include "serve/conversation.h"
#include "serve/embedder.h"
#include "serve/fitting.h"
#include "serve/json.h"
#include "serve/metrics.h"
#include "serve/model_change_requests.h"
#include "serve/model_table.h"
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
  return !net::is_loopback(options.listen.host) ||
         std::ranges::any_of(options.listen_too, [](const auto& endpoint) { return !net::is_loopback(endpoint.host); });
}

}  // namespace

struct Server::Impl {
  using EntryPointer = std::shared_ptr<const ModelEntry>;
  struct PlanQuestion {
    EntryPointer entry;
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

  // Who answers with a model.
  struct Workers {
    std::shared_ptr<Generator> generator;
    std::shared_ptr<Embedder> embedder;
  };

  // What a body asks for, and of which model.
  template <typename What>
  struct Asked {
    EntryPointer entry;
    What what;
  };

  Impl(net::EventLoop& of_loop, std::vector<ServerModel> of_models, ServerOptions given)
      : loop(of_loop),
        options(std::move(given)),
        access(reach(), keys(), options.origins, options.changes),
        context_tokens(of_models.front().source->engine_options().context_tokens) {
    for (ServerModel& model : of_models) {
      // Each has another name.
      static_cast<void>(admit(std::move(model), {}, Stay::kAlways));
    }
  }

  // On the loop's thread, as the next.
  Result<void> admit(ServerModel model, std::vector<std::string> names, Stay stay) {
    const EmbedderLimits limits{.waiting = options.generator.waiting + 1,
                                .waiting_time = options.generator.waiting_time};
    const Workers made{std::make_shared<Generator>(loop, *model.source, model.served->vocabulary(), options.generator,
                                                   metrics, model.planner),
                       Embedder::create(loop, *model.source, limits, metrics)};
    const auto entry = std::make_shared<const ModelEntry>(std::move(model), stay, made.generator, made.embedder);
    TRY(table.add(entry, std::move(names)));
    workers.emplace(entry.get(), made);
    return {};
  }
  Result<void> admit_later(ModelIntake::Opened opened, std::vector<std::string> names) {
    ServerModel model = options.management.intake->admit(std::move(opened));
    node::PooledModel& source = *model.source;
    auto admitted = admit(std::move(model), std::move(names), Stay::kUntilDeleted);
    if (!admitted) options.management.intake->dismiss(source);
    return admitted;
  }
  // Whoever holds the entry still finds nobody to answer.
  Result<void> dismiss(const ModelEntry& entry) {
    const auto found = workers.find(&entry);
    if (found == workers.end()) return {};
    node::PooledModel& source = *entry.model.source;
    if (source.state() != node::PooledModel::State::kUnloaded || source.is_wanted()) {
      return fail(ErrorCode::kNoCapacity,
                  std::format("'{}' is loaded, or about to be: it can be deleted when it is not, which a request with "
                              "'keep_alive': 0 brings about ('ollama stop')",
                              entry.served().id()));
    }
    gone_load += found->second.generator->load_now();
    workers.erase(found);
    table.remove(entry);
    options.management.intake->dismiss(source);
    return {};
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
        {.method = "POST",
         .path = "/v1/completions",
         .parse = openai::parse_completion,
         .error_body = openai::completion_error_body},
        {.method = "POST",
         .path = "/v1/responses",
         .parse = responses::parse,
         .error_body = openai::response_error_body},
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
        {.method = "POST", .path = "/api/pull", .answer = &Impl::pull_model, .error_body = ollama::error_body},
        {.method = "POST", .path = "/api/copy", .answer = &Impl::copy_model, .error_body = ollama::error_body},
        {.method = "DELETE", .path = "/api/delete", .answer = &Impl::delete_model, .error_body = ollama::error_body},
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
            Json body = TRY(parse_json(text));
            const EntryPointer entry = TRY(entry_for(body));
            return route.tell(body, entry->served());
          },
          [this](std::string told, std::shared_ptr<HttpReply> to) { send(*to, 200, std::move(told)); });
    }
    if (route.parse_vectors != nullptr) {
      return work<Asked<vectors::VectorRequest>>(
          client, std::move(request), std::move(reply), route,
          [this, &route](const std::string& body) { return parse_vectors(route, body); },
          [this, &route, client](Asked<vectors::VectorRequest> asked, std::shared_ptr<HttpReply> to) {
            begin_vectors(route, client, asked.entry, std::move(asked.what), std::move(to));
          });
    }
    work<Asked<ParsedRequest>>(
        client, std::move(request), std::move(reply), route,
        [this, &route](const std::string& body) { return parse(route, body); },
        [this, &route, client](Asked<ParsedRequest> asked, std::shared_ptr<HttpReply> to) {
          if (asked.what.load) return load(route, asked.entry, *std::move(asked.what.load), std::move(to));
          begin(route, client, asked.entry, std::move(asked.what), std::move(to));
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

  // The model that the body names, which is then called there as its parser knows it. Where it names none, its parser
  // says so, whichever the model.
  Result<EntryPointer> entry_for(Json& body) const {
    const auto all = table.list();
    std::string* const wanted = named_model(body);
    if (wanted == nullptr || wanted->empty()) return all->front().entry;
    if (EntryPointer entry = table.find(*wanted)) {
      *wanted = entry->served().id();
      return entry;
    }
    if (all->size() == 1) return all->front().entry;
    std::string known;
    for (const ModelTable::Listed& listed : *all) {
      known += std::format("{}'{}'", known.empty() ? "" : ", ", listed.names.front());
    }
    return fail(ErrorCode::kNotFound, std::format("model '{}' not found; this server has {}", *wanted, known), "model");
  }

  // Null where it names none.
  static std::string* named_model(Json& body) {
    if (!body.is_object()) return nullptr;
    // Older clients of Ollama's call it 'name'.
    for (const std::string_view member : {"model", "name"}) {
      const auto found = body.get_object().find(member);
      if (found == body.get_object().end() || found->second.is_null()) continue;
      return found->second.is_string() ? &found->second.get_string() : nullptr;
    }
    return nullptr;
  }

  Result<Asked<vectors::VectorRequest>> parse_vectors(const Route& route, const std::string& text) const {
    Json body = TRY(parse_json(text));
    const EntryPointer entry = TRY(entry_for(body));
    vectors::VectorRequest asked = TRY(route.parse_vectors(body, entry->served()));
    TRY(fit(asked, room(), entry->served().tokenizer().end_sequence()));
    return Asked{entry, std::move(asked)};
  }

  // Computes on the loop's thread, writes the answer on the worker's, sends it on this one.
  void begin_vectors(const Route& route, const std::string& client, const EntryPointer& entry,
                     vectors::VectorRequest asked, std::shared_ptr<HttpReply> reply) {
    const Embedder::Id id = next_id++;
    reply->on_gone([this, weak = entry->embedder, id] {
      loop.post([weak, id] {
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
    loop.post([entry, alive = alive_elsewhere, id, work = std::move(asked.work), done = std::move(done)]() mutable {
      if (alive.expired()) return;
      const auto held = entry->embedder.lock();
      if (!held) return done(was_deleted(*entry));
      held->start(id, std::move(work), std::move(done));
    });
  }

  Result<Asked<ParsedRequest>> parse(const Route& route, const std::string& text) const {
    Json body = TRY(parse_json(text));
    const EntryPointer entry = TRY(entry_for(body));
    ParsedRequest parsed = TRY(route.parse(body, entry->served()));
    if (parsed.load) return Asked{entry, std::move(parsed)};
    // Now rather than when it is its turn.
    TRY(fit(parsed.request, room()));
    return Asked{entry, std::move(parsed)};
  }

  // Answers when the model is loaded, or about to go where the client wants that.
  void load(const Route& route, const EntryPointer& entry, LoadWish wish, std::shared_ptr<HttpReply> reply) {
    loop.post([this, &route, entry, alive = alive_elsewhere, wish = std::move(wish),
               reply = std::move(reply)]() mutable {
      if (alive.expired()) return;
      const auto held = entry->generator.lock();
      auto done = [this, &route, reply = std::move(reply),
                   answer = std::move(wish.answer)](Result<void> loaded) mutable {
        http->post([this, &route, reply = std::move(reply), answer = std::move(answer), loaded = std::move(loaded)] {
          if (!loaded) return send_error(*reply, route, loaded.error());
          send(*reply, 200, answer);
        });
      };
      if (!held) return done(was_deleted(*entry));
      if (wish.keep_alive != Duration::zero()) return held->load(wish.keep_alive, std::move(done));
      held->model().keep_alive(Duration::zero());
      done({});
    });
  }

  void begin(const Route& route, const std::string& client, const EntryPointer& entry, ParsedRequest parsed,
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
                           .request = entry->model.request,
                           .stops = asked.stops,
                           .marks = asked.marks,
                           .top_logprobs = asked.top_logprobs,
                           .keep_alive = asked.keep_alive};
      node::RequestOptions& request = answer.request;
      if (asked.form) request.filter = std::make_shared<text::ConstrainedText>(asked.form);
      request.prompt = asked.prompts[choice / asked.choices];
      request.max_new_tokens = *asked.max_new_tokens;
      request.end_tokens = entry->served().vocabulary().end_tokens();
      request.end_tokens.insert(request.end_tokens.end(), asked.further_end_tokens.begin(),
                                asked.further_end_tokens.end());
      request.sampler = asked.sampler;
      // Answers to one prompt draw each its own.
      request.sampler.seed += choice % asked.choices;
      if (asked.penalised == Penalised::kAnswer) {
        request.sampler.penalty_from = static_cast<std::uint32_t>(request.prompt.size());
      }
      auto sink = relay_to(*http, conversation, choice);
      loop.post([entry, alive = alive_elsewhere, id, answer = std::move(answer), sink = std::move(sink)]() mutable {
        if (alive.expired()) return;
        const auto held = entry->generator.lock();
        if (!held) return sink->on_end(was_deleted(*entry));
        held->start(id, std::move(answer), std::move(sink));
      });
    }
    conversation->on_abandoned([this, weak = entry->generator, ids] {
      loop.post([weak, ids] {
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
    const auto all = table.list();
    std::vector<openai::NamedModel> named;
    for (const ModelTable::Listed& listed : *all) {
      for (const std::string& name : listed.names) named.push_back({name, &listed.entry->served()});
    }
    send(*reply, 200, openai::model_list(named));
  }
  void show_model(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    const std::string wanted = percent_decoded(request.path.substr(std::string_view("/v1/models/").size()));
    if (const EntryPointer entry = table.find(wanted)) {
      return send(*reply, 200, openai::model_entry({wanted, &entry->served()}));
    }
    const Error error{ErrorCode::kNotFound, std::format("the model '{}' is not served here", wanted), "model"};
    send(*reply, 404, openai::error_body(404, error));
  }
  void list_tags(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    ask_loop(reply, ollama::error_body, [this]() -> Result<std::string> {
      const auto all = table.list();
      std::vector<ollama::ListedModel> listed;
      for (const ModelTable::Listed& model : *all) {
        for (const std::string& name : model.names) listed.push_back(listed_now(*model.entry, name));
      }
      return ollama::model_list(listed);
    });
  }
  void list_running(const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
    ask_loop(reply, ollama::error_body, [this]() -> Result<std::string> {
      const auto all = table.list();
      std::vector<ollama::RunningModel> running;
      for (const ModelTable::Listed& listed : *all) {
        const node::PooledModel& model = *listed.entry->model.source;
        if (model.loaded() == nullptr) continue;
        running.push_back({.listed = listed_now(*listed.entry, listed.names.front()),
                           .bytes = model.bytes(),
                           .expires_in = model.expires_in(),
                           .context_tokens = context_tokens});
      }
      return ollama::running_list(running);
    });
  }
  // On the loop's thread.
  static ollama::ListedModel listed_now(const ModelEntry& entry, const std::string& name) {
    const std::optional<Sha256>& digest = entry.model.source->digest();
    return {.model = &entry.served(), .name = name, .digest = digest ? digest->hex() : ""};
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
    loop.post([this, alive = alive_elsewhere, reply, error_as, ask = std::move(ask)]() mutable {
      if (alive.expired()) return;
      http->post([this, reply = std::move(reply), error_as, said = ask()] {
        if (said) return send(*reply, 200, *said);
        const int status = http_status(said.error().code);
        send(*reply, status, error_as(status, said.error()));
      });
    });
  }
  static std::unexpected<Error> was_deleted(const ModelEntry& entry) {
    return fail(ErrorCode::kNotFound,
                std::format("model '{}' not found: it has just been deleted", entry.served().id()), "model");
  }
  void pull_model(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    if (!changes) return refuse_change(*reply);
    changes->pull(request, reply);
  }
  void copy_model(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    if (!changes) return refuse_change(*reply);
    changes->copy(request, access.client_of(request), reply);
  }
  void delete_model(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
    if (!changes) return refuse_change(*reply);
    changes->remove(request, access.client_of(request), reply);
  }
  void refuse_change(HttpReply& reply) {
    const Error error{ErrorCode::kUnsupported, "the models of this server stay as they are", {}};
    send(reply, http_status(error.code), ollama::error_body(http_status(error.code), error));
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
    Json body = TRY(parse_json(request.body));
    PlanQuestion question;
    question.entry = TRY(entry_for(body));
    Fields fields = TRY(Fields::of(body));
    fields.allow({"model"});
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
    ask_loop(reply, openai::error_body, [this, asked = *question]() -> Result<std::string> {
      if (!workers.contains(asked.entry.get())) return was_deleted(*asked.entry);
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
    loop.post([this, alive = alive_elsewhere, reply]() mutable {
      if (alive.expired()) return;
      ServerLoad load = gone_load;
      for (const auto& [entry, held] : workers) load += held.generator->load_now();
      metrics.set_load(load);
      http->post([this, reply = std::move(reply)] { send(*reply, 200, metrics.to_text(), kMetricsType); });
    });
  }

  net::EventLoop& loop;
  const ServerOptions options;
  Access access;  // on the HTTP server's thread
  const std::uint32_t context_tokens;
  Metrics metrics;
  ModelTable table;
  std::map<const ModelEntry*, Workers> workers;  // on the loop's thread
  ServerLoad gone_load;                          // likewise: what models did that are here no more
  // On the loop's thread: while it is there, so is all of this.
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  const std::weak_ptr<bool> alive_elsewhere = alive;
  std::uint64_t next_id = 1;  // on the HTTP server's thread
  std::unique_ptr<TaskWorker> worker;
  std::unique_ptr<ModelKeeper> keeper;  // null: the models stay as they are
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<ModelChangeRequests> changes;  // null with the keeper
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
  if (impl->options.management.store) {
    const ModelKeeper::Doors doors{
        .admit = [raw](auto opened, auto names) { return raw->admit_later(std::move(opened), std::move(names)); },
        .dismiss = [raw](const ModelEntry& entry) { return raw->dismiss(entry); }};
    impl->keeper = std::make_unique<ModelKeeper>(loop, impl->table, impl->options.management, doors);
  }
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
  if (impl->keeper) {
    impl->changes = std::make_unique<ModelChangeRequests>(*impl->keeper, *impl->http, impl->metrics);
  }
  ready->store(true);
  ready->notify_all();
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() {
  // Its answers say farewell by the HTTP server.
  impl_->alive.reset();
  impl_->workers.clear();
  // What these make goes by the HTTP server, which still asks them.
  if (impl_->keeper) impl_->keeper->close();
  impl_->worker->close();
  impl_->http.reset();
}

net::Endpoint Server::endpoint() const { return impl_->http->endpoint(); }

}  // namespace baton::serve
