#include "serve/model_change_requests.h"

#include <utility>

#include "base/error_table.h"
#include "serve/error_form.h"
#include "serve/json.h"
#include "serve/ollama.h"
#include "serve/ollama_store.h"

namespace baton::serve {

namespace {

constexpr std::string_view kLines = "application/x-ndjson";
}  // namespace

// One client of a pull, on the HTTP server's thread.
class ModelChangeRequests::Watch {
 public:
  Watch(ModelChangeRequests& requests, std::shared_ptr<HttpReply> reply, Delivery delivery)
      : requests_(requests), reply_(std::move(reply)), delivery_(delivery) {}

  void progress(const store::PullProgress& progress) {
    if (delivery_ == Delivery::kWhole || reply_->gone()) return;
    begin();
    reply_->write(lines_.progress(progress));
  }
  void end(const Result<void>& end) {
    if (reply_->gone()) return;
    // Once a stream has begun, its status cannot say what went wrong any more.
    if (!end && !reply_->begun()) return requests_.refuse(*reply_, ollama::status_of_change(end.error()), end.error());
    if (delivery_ == Delivery::kWhole) return requests_.send(*reply_, 200, ollama::success_body());
    begin();
    reply_->write(lines_.end(end));
    reply_->end();
  }

 private:
  void begin() {
    if (reply_->begun()) return;
    requests_.metrics_.count_http(200);
    reply_->begin(200, kLines);
  }

  ModelChangeRequests& requests_;
  const std::shared_ptr<HttpReply> reply_;
  const Delivery delivery_;
  ollama::PullLines lines_;
};

void ModelChangeRequests::send(HttpReply& reply, int status, std::string body, HttpHeaders headers) {
  metrics_.count_http(status);
  reply.send(status, kJsonType, std::move(body), std::move(headers));
}

void ModelChangeRequests::refuse(HttpReply& reply, int status, const Error& error) {
  send(reply, status, ollama::error_body(status, {error.code, error.to_string(), {}}), retry_headers(status, error));
}

void ModelChangeRequests::pull(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const auto wish = parse_small_json(request.body).and_then(ollama::parse_pull);
  if (!wish) return refuse(*reply, http_status(wish.error().code), {wish.error().code, wish.error().message, {}});
  const auto watch = std::make_shared<Watch>(*this, reply, wish->delivery);
  const auto id = keeper_.pulls().watch(
      wish->model,
      {.on_progress =
           [this, watch](const store::PullProgress& progress) {
             http_.post([watch, progress] { watch->progress(progress); });
           },
       .on_end = [this, watch](const Result<void>& end) { http_.post([watch, end] { watch->end(end); }); }});
  if (!id) return refuse(*reply, http_status(id.error().code), id.error());
  reply->on_gone([this, id = *id] { keeper_.pulls().leave(id); });
}

void ModelChangeRequests::copy(const HttpRequest& request, const std::string& client,
                               const std::shared_ptr<HttpReply>& reply) {
  auto wish = parse_small_json(request.body).and_then(ollama::parse_copy);
  if (!wish) return refuse(*reply, http_status(wish.error().code), {wish.error().code, wish.error().message, {}});
  const auto submitted = keeper_.copy(client, std::move(wish->source), std::move(wish->destination), answer_to(reply));
  if (!submitted) refuse(*reply, http_status(submitted.error().code), submitted.error());
}

void ModelChangeRequests::remove(const HttpRequest& request, const std::string& client,
                                 const std::shared_ptr<HttpReply>& reply) {
  auto name = parse_small_json(request.body).and_then(ollama::parse_delete);
  if (!name) return refuse(*reply, http_status(name.error().code), {name.error().code, name.error().message, {}});
  const auto submitted = keeper_.remove(client, *std::move(name), answer_to(reply));
  if (!submitted) refuse(*reply, http_status(submitted.error().code), submitted.error());
}

ModelKeeper::Done ModelChangeRequests::answer_to(const std::shared_ptr<HttpReply>& reply) {
  return [this, reply](const Result<void>& changed) {
    http_.post([this, reply, changed] {
      if (changed) return send(*reply, 200, "");
      refuse(*reply, ollama::status_of_change(changed.error()), changed.error());
    });
  };
}

}  // namespace baton::serve
