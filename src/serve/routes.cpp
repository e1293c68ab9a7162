#include "serve/routes.h"

#include <algorithm>
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
  RouteUse use;
  const ErrorForm* errors;  // of the API that it belongs to
  std::variant<ReadBody, Show> answer;
};

ReadBody reading_text(ParseText parse) { return parse; }
ReadBody reading_vectors(ParseVectors parse) { return parse; }
ReadBody telling(TellOfModel tell) { return tell; }

const auto& routes() {
  static const std::array all = {
      Route{"POST", "/v1/chat/completions", RouteUse::kAsk, &kOpenAiErrors, reading_text(openai::parse_chat)},
      Route{"POST", "/v1/completions", RouteUse::kAsk, &kCompletionErrors, reading_text(openai::parse_completion)},
      Route{"POST", "/v1/responses", RouteUse::kAsk, &kResponseErrors, reading_text(responses::parse)},
      Route{"POST", "/v1/embeddings", RouteUse::kAsk, &kOpenAiErrors, reading_vectors(vectors::parse_embeddings)},
      Route{"POST", "/v1/rerank", RouteUse::kAsk, &kOpenAiErrors, reading_vectors(vectors::parse_rerank)},
      Route{"GET", "/v1/models", RouteUse::kAsk, &kOpenAiErrors, list_models},
      Route{"GET", kModelsFolder, RouteUse::kAsk, &kOpenAiErrors, show_model},
      Route{"POST", "/v1/messages", RouteUse::kAsk, &kAnthropicErrors, reading_text(anthropic::parse_messages)},
      Route{"POST", "/v1/messages/count_tokens", RouteUse::kAsk, &kAnthropicErrors, telling(anthropic::count_tokens)},
      Route{"POST", "/api/chat", RouteUse::kAsk, &kOllamaErrors, reading_text(ollama::parse_chat)},
      Route{"POST", "/api/generate", RouteUse::kAsk, &kOllamaErrors, reading_text(ollama::parse_generate)},
      Route{"POST", "/api/embed", RouteUse::kAsk, &kOllamaErrors, reading_vectors(vectors::parse_ollama_embed)},
      Route{"POST", "/api/embeddings", RouteUse::kAsk, &kOllamaErrors,
            reading_vectors(vectors::parse_ollama_embeddings)},
      Route{"POST", "/api/show", RouteUse::kAsk, &kOllamaErrors, telling(ollama::show)},
      Route{"GET", "/api/tags", RouteUse::kAsk, &kOllamaErrors, list_tags},
      Route{"GET", "/api/ps", RouteUse::kAsk, &kOllamaErrors, list_running},
      Route{"GET", "/api/version", RouteUse::kAsk, &kOllamaErrors, show_version},
      Route{"POST", "/api/pull", RouteUse::kChangeModels, &kOllamaErrors, pull_model},
      Route{"POST", "/api/copy", RouteUse::kChangeModels, &kOllamaErrors, copy_model},
      Route{"DELETE", "/api/delete", RouteUse::kChangeModels, &kOllamaErrors, delete_model},
      Route{"POST", "/api/plan", RouteUse::kAsk, &kProblems, explain_plan},
      Route{"GET", "/api/plan", RouteUse::kAsk, &kProblems, show_plans},
      Route{"GET", "/api/cluster", RouteUse::kAsk, &kProblems, show_cluster},
      Route{"GET", "/api/requests", RouteUse::kAsk, &kProblems, list_requests},
      Route{"GET", kRequestsFolder, RouteUse::kAsk, &kProblems, show_request},
      Route{"DELETE", kRequestsFolder, RouteUse::kCancelRequests, &kProblems, cancel_request},
      // Also that by which Ollama's command line sees that somebody listens.
      Route{"GET", "/", RouteUse::kOpen, &kOpenAiErrors, show_page},
      Route{"GET", "/assets/", RouteUse::kOpen, &kOpenAiErrors, show_page},
      Route{"GET", "/health", RouteUse::kOpen, &kOpenAiErrors, show_health},
      Route{"GET", "/ready", RouteUse::kOpen, &kOpenAiErrors, show_health},
      Route{"GET", "/metrics", RouteUse::kAsk, &kOpenAiErrors, show_metrics},
  };
  return all;
}

bool matches(const Route& route, std::string_view path) {
  const bool is_folder = route.path.size() > 1 && route.path.ends_with('/');
  return is_folder ? path.starts_with(route.path) && path.size() > route.path.size() : path == route.path;
}

// Where one may ask in no such way, `allowed` says how.
const Route* find_route(std::string_view method, std::string_view path, std::string& allowed) {
  for (const Route& route : routes()) {
    if (!matches(route, path)) continue;
    if (route.method == method || (route.method == "GET" && method == "HEAD")) return &route;
    allowed += allowed.empty() ? route.method : std::format(", {}", route.method);
  }
  return nullptr;
}

bool is_below(const Route& route, std::string_view path) {
  return path.starts_with(route.path) && path.substr(route.path.size()).starts_with('/');
}

}  // namespace

const ErrorForm& error_form_for(std::string_view path) {
  for (const auto& fits : {matches, is_below}) {
    const auto route = std::ranges::find_if(routes(), [&](const Route& one) { return fits(one, path); });
    if (route != routes().end()) return *route->errors;
  }
  return path.starts_with("/api/") ? kOllamaErrors : kOpenAiErrors;
}

std::optional<HttpServer::Refusal> refuse_request(ServerCore& core, const HttpRequest& request) {
  const bool is_preflight = core.access.is_preflight(request);
  // What the browser is about to do.
  const std::string_view method = is_preflight ? request.header("access-control-request-method") : request.method;
  std::string allowed;
  const Route* const route = find_route(method, request.path, allowed);
  auto refusal = core.access.refuse(request, route == nullptr ? RouteUse::kAsk : route->use);
  if (!refusal && !is_preflight && route == nullptr) {
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
  const Route& route = *find_route(request.method, request.path, allowed);
  if (const auto* show = std::get_if<Show>(&route.answer)) return (*show)(core, request, reply);
  const ModelEndpoint endpoint{route.path, std::get<ReadBody>(route.answer), *route.errors};
  answer_by_model(core, endpoint, std::move(request), std::move(reply));
}

}  // namespace baton::serve
