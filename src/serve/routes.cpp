#include "serve/routes.h"

#include <array>
#include <format>
#include <variant>

#include "serve/anthropic.h"
#include "serve/model_requests.h"
#include "serve/ollama.h"
#include "serve/openai.h"
#include "serve/own_endpoints.h"
#include "serve/responses.h"
#include "serve/shown_answers.h"
#include "serve/vectors.h"

namespace baton::serve {

namespace {

using Show = void (*)(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

struct Route {
  std::string_view method;
  std::string_view path;  // one that ends with '/' stands for all that begin so, but the root for itself alone
  std::variant<ReadBody, Show> answer;
};

ReadBody reading_text(ParseText parse) { return parse; }
ReadBody reading_vectors(ParseVectors parse) { return parse; }
ReadBody telling(TellOfModel tell) { return tell; }

const auto& routes() {
  static const std::array all = {
      Route{"POST", "/v1/chat/completions", reading_text(openai::parse_chat)},
      Route{"POST", "/v1/completions", reading_text(openai::parse_completion)},
      Route{"POST", "/v1/responses", reading_text(responses::parse)},
      Route{"POST", "/v1/embeddings", reading_vectors(vectors::parse_embeddings)},
      Route{"POST", "/v1/rerank", reading_vectors(vectors::parse_rerank)},
      Route{"GET", "/v1/models", list_models},
      Route{"GET", kModelsFolder, show_model},
      Route{"POST", "/v1/messages", reading_text(anthropic::parse_messages)},
      Route{"POST", "/v1/messages/count_tokens", telling(anthropic::count_tokens)},
      Route{"POST", "/api/chat", reading_text(ollama::parse_chat)},
      Route{"POST", "/api/generate", reading_text(ollama::parse_generate)},
      Route{"POST", "/api/embed", reading_vectors(vectors::parse_ollama_embed)},
      Route{"POST", "/api/embeddings", reading_vectors(vectors::parse_ollama_embeddings)},
      Route{"POST", "/api/show", telling(ollama::show)},
      Route{"GET", "/api/tags", list_tags},
      Route{"GET", "/api/ps", list_running},
      Route{"GET", "/api/version", show_version},
      Route{"POST", "/api/pull", pull_model},
      Route{"POST", "/api/copy", copy_model},
      Route{"DELETE", "/api/delete", delete_model},
      Route{"POST", "/api/plan", explain_plan},
      Route{"GET", "/api/plan", show_plans},
      Route{"GET", "/api/cluster", show_cluster},
      Route{"GET", "/api/requests", list_requests},
      Route{"GET", kRequestsFolder, show_request},
      Route{"DELETE", kRequestsFolder, cancel_request},
      // Also that by which Ollama's command line sees that somebody listens.
      Route{"GET", "/", show_page},
      Route{"GET", "/assets/", show_page},
      Route{"GET", "/health", show_health},
      Route{"GET", "/ready", show_health},
      Route{"GET", "/metrics", show_metrics},
  };
  return all;
}

bool matches(const Route& route, std::string_view path) {
  const bool is_folder = route.path.size() > 1 && route.path.ends_with('/');
  return is_folder ? path.starts_with(route.path) && path.size() > route.path.size() : path == route.path;
}

// Where one may ask in no such way, `allowed` says how.
const Route* find_route(const HttpRequest& request, std::string& allowed) {
  for (const Route& route : routes()) {
    if (!matches(route, request.path)) continue;
    if (route.method == request.method || (route.method == "GET" && request.method == "HEAD")) return &route;
    allowed += allowed.empty() ? route.method : std::format(", {}", route.method);
  }
  return nullptr;
}

}  // namespace

std::optional<HttpServer::Refusal> refuse_request(ServerCore& core, const HttpRequest& request) {
  auto refusal = core.access.refuse(request);
  std::string allowed;
  if (!refusal && !core.access.is_preflight(request) && find_route(request, allowed) == nullptr) {
    refusal = allowed.empty()
                  ? HttpServer::Refusal{404, std::format("there is nothing at '{}'", request.path)}
                  : HttpServer::Refusal{405, std::format("'{}' takes {}", request.path, allowed), {{"Allow", allowed}}};
  }
  if (refusal) core.metrics.count_http(refusal->status);
  return refusal;
}

void answer_request(ServerCore& core, HttpRequest request, std::shared_ptr<HttpReply> reply) {
  if (core.access.is_preflight(request)) return core.send(*reply, 204, {});
  std::string allowed;
  const Route& route = *find_route(request, allowed);
  if (const auto* show = std::get_if<Show>(&route.answer)) return (*show)(core, request, reply);
  const ModelEndpoint endpoint{route.path, std::get<ReadBody>(route.answer), error_form_for(route.path)};
  answer_by_model(core, endpoint, std::move(request), std::move(reply));
}

}  // namespace baton::serve
