#include "serve/server_core.h"

#include <algorithm>

#include "net/loopback.h"

namespace baton::serve {

namespace {

Access::Reach reach_of(const ServerOptions& options) {
  return reached_from_elsewhere(options) ? Access::Reach::kNetwork : Access::Reach::kThisMachine;
}

std::optional<KeyRing> keys_of(const ServerOptions& options) {
  if (reached_from_elsewhere(options)) return KeyRing(options.api_keys, options.key_book);
  if (options.api_keys.empty()) return std::nullopt;
  return KeyRing(options.api_keys, {});
}

// Null where it names none.
std::string* name_in(Json& body) {
  if (!body.is_object()) return nullptr;
  // Older clients of Ollama's call it 'name'.
  for (const std::string_view member : {"model", "name"}) {
    const auto found = body.get_object().find(member);
    if (found == body.get_object().end() || found->second.is_null()) continue;
    return found->second.is_string() ? &found->second.get_string() : nullptr;
  }
  return nullptr;
}

}  // namespace

bool reached_from_elsewhere(const ServerOptions& options) {
  return !net::is_loopback(options.listen.host) ||
         std::ranges::any_of(options.listen_too, [](const auto& endpoint) { return !net::is_loopback(endpoint.host); });
}

ServerCore::ServerCore(net::EventLoop& of_loop, ServerOptions given, std::uint32_t of_context_tokens)
    : loop(of_loop),
      options(std::move(given)),
      context_tokens(of_context_tokens),
      access(reach_of(options), keys_of(options), options.origins, options.changes) {}

Result<ServerCore::Named> ServerCore::named_model(Json& body) const {
  const auto all = table.list();
  std::string* const wanted = name_in(body);
  if (wanted == nullptr) return Named{all->front().entry, all->front().names.front()};
  if (const ModelTable::Found found = table.find(*wanted); found.entry) {
    *wanted = found.name;
    return Named{found.entry, found.name};
  }
  std::string known;
  for (const ModelTable::Listed& listed : *all) {
    known += std::format("{}'{}'", known.empty() ? "" : ", ", listed.names.front());
  }
  return fail(ErrorCode::kNotFound, std::format("model '{}' not found; this server has {}", *wanted, known), "model");
}

std::unexpected<Error> ServerCore::was_deleted(const std::string& name) {
  return fail(ErrorCode::kNotFound, std::format("model '{}' not found: it has just been deleted", name), "model");
}

void ServerCore::send(HttpReply& reply, int status, std::string body, std::string_view type, HttpHeaders headers) {
  metrics.count_http(status);
  reply.send(status, type, std::move(body), std::move(headers));
}

void ServerCore::send_error(HttpReply& reply, const ErrorForm& form, const Error& error) {
  const int status = http_status(error.code);
  send(reply, status, form.body(status, error), form.content_type, retry_headers(status, error));
}

void ServerCore::ask_loop(const std::shared_ptr<HttpReply>& reply, const ErrorForm& errors,
                          std::move_only_function<Result<std::string>()> ask) {
  on_loop([this, reply, &errors, ask = std::move(ask)]() mutable {
    http->post([this, reply = std::move(reply), &errors, said = ask()] {
      if (!said) return send_error(*reply, errors, said.error());
      send(*reply, 200, *said);
    });
  });
}

void ServerCore::ask_loop_in_turn(const std::string& client, const std::shared_ptr<HttpReply>& reply,
                                  const ErrorForm& errors, std::move_only_function<Result<std::string>()> ask) {
  const auto taken = turns.take(client, [this, reply, &errors, ask = std::move(ask)]() mutable {
    if (reply->gone()) return turns.end();
    on_loop([this, reply = std::move(reply), &errors, ask = std::move(ask)]() mutable {
      http->post([this, reply = std::move(reply), &errors, said = ask()] {
        turns.end();
        if (!said) return send_error(*reply, errors, said.error());
        send(*reply, 200, *said);
      });
    });
  });
  if (!taken) send_error(*reply, errors, taken.error());
}

}  // namespace baton::serve
