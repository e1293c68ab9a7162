#include "serve/server.h"

#include <algorithm>
#include <atomic>
#include <format>

#include "serve/error_form.h"
#include "serve/routes.h"
#include "serve/server_core.h"

namespace baton::serve {

namespace {

constexpr std::size_t kMostBodyBytesPerToken = 64;
constexpr std::size_t kLeastBodyBytes = 1 << 20;

// Of what is refused before its handler sees it: each API has a form of its own.
HttpServer::ErrorBody describe_error(std::string_view path, int status, std::string_view message) {
  const ErrorForm& form = error_form_for(path);
  return {form.content_type, form.body(status, error_for_status(status, message))};
}

}  // namespace

// Which models there are; what is done with them is the business of routes.h.
struct Server::Impl : ServerCore {
  Impl(net::EventLoop& of_loop, std::vector<ServerModel> models, ServerOptions given)
      : ServerCore(of_loop, std::move(given), models.front().source->engine_options().context_tokens) {
    for (ServerModel& model : models) {
      // Each has another name.
      static_cast<void>(admit(std::move(model), {}, Stay::kAlways));
    }
  }

  // These on the loop's thread. The model comes as the next.
  Result<void> admit(ServerModel model, std::vector<std::string> names, Stay stay) {
    const EmbedderLimits limits{.waiting = options.generator.waiting + 1,
                                .waiting_time = options.generator.waiting_time};
    const ModelWorkers made{std::make_shared<Generator>(loop, *model.source, model.served->vocabulary(),
                                                        options.generator, metrics, book, model.planner),
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
                              table.name_of(entry)));
    }
    gone_load += found->second.generator->load_now();
    workers.erase(found);
    table.remove(entry);
    options.management.intake->dismiss(source);
    return {};
  }

  void begin_keeping_models() {
    const ModelKeeper::Doors doors{
        .admit = [this](auto opened, auto names) { return admit_later(std::move(opened), std::move(names)); },
        .dismiss = [this](const ModelEntry& entry) { return dismiss(entry); }};
    keeper = std::make_unique<ModelKeeper>(loop, table, options.management, doors);
  }
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
  if (impl->options.management.store) impl->begin_keeping_models();
  // Requests may come before `http` is assigned: they wait for it.
  auto ready = std::make_shared<std::atomic<bool>>(false);
  http.handler = [raw, ready](HttpRequest request, std::shared_ptr<HttpReply> reply) {
    ready->wait(false);
    answer_request(*raw, std::move(request), std::move(reply));
  };
  http.describe_error = describe_error;
  // No prompt that fits takes more; it is read into memory before its tokens are counted.
  http.limits.body_bytes = std::clamp(impl->context_tokens * kMostBodyBytesPerToken,
                                      std::min(kLeastBodyBytes, http.limits.body_bytes), http.limits.body_bytes);
  http.common_headers = [raw](const HttpRequest& request) { return raw->access.headers_for(request); };
  http.gate = [raw](const HttpRequest& request) { return refuse_request(*raw, request); };
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
