#include "serve/access.h"

#include <algorithm>
#include <format>

#include "net/loopback.h"

namespace baton::serve {

namespace {

std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

}  // namespace

std::optional<std::string> Access::owner_of(const HttpRequest& request) {
  if (!keys_) return std::nullopt;
  std::string_view given = request.header("x-api-key");
  constexpr std::string_view kBearer = "Bearer ";
  if (const std::string_view header = request.header("authorization"); header.starts_with(kBearer)) {
    given = header.substr(kBearer.size());
  }
  return keys_->owner_of(given);
}

std::optional<HttpServer::Refusal> Access::refuse(const HttpRequest& request, RouteUse use) {
  const std::string_view host = request.header("host");
  const std::string_view origin = request.header("origin");
  const bool own = origin == std::format("http://{}", host) || origin == std::format("https://{}", host);
  if (!origin.empty() && !own && !is_named(origin)) {
    return HttpServer::Refusal{403, std::format("web pages of another origin ('{}') are not answered: name it with "
                                                "--allow-origin",
                                                origin)};
  }
  if (!keys_ && reach_ == Reach::kThisMachine && !host.empty() && !net::is_loopback(without_port(host))) {
    return HttpServer::Refusal{403, std::format("'{}' is not a name of this machine: ask for localhost", host)};
  }
  if (keys_ && use != RouteUse::kOpen && !is_preflight(request) && !owner_of(request)) {
    return HttpServer::Refusal{
        401, "a key is needed: send 'Authorization: Bearer KEY'", {{"WWW-Authenticate", "Bearer"}}};
  }
  const bool cancels = use == RouteUse::kCancelRequests;
  if (!cancels && use != RouteUse::kChangeModels) return std::nullopt;
  // A page that may ask is not one that may fill the disk, or end what others have asked for.
  if (!origin.empty() && !own) {
    return HttpServer::Refusal{403, cancels ? "web pages of another origin may not cancel requests"
                                            : "web pages of another origin may not change which models there are"};
  }
  if (reach_ == Reach::kNetwork && changes_ == ModelChanges::kFromHere) {
    if (cancels) {
      return HttpServer::Refusal{
          403,
          "this API can be reached from other machines, and lets nobody cancel others' requests: "
          "a client cancels its own by closing its connection; start it with --api-models to "
          "let every key cancel all"};
    }
    return HttpServer::Refusal{403,
                               "this API can be reached from other machines, and lets nobody pull, copy or delete "
                               "models: use 'baton pull', 'cp' and 'rm' on its machine, or start it with --api-models"};
  }
  return std::nullopt;
}

bool Access::is_named(std::string_view origin) const { return std::ranges::contains(origins_, origin); }

bool Access::is_preflight(const HttpRequest& request) const {
  return request.method == "OPTIONS" && is_named(request.header("origin")) &&
         !request.header("access-control-request-method").empty();
}

HttpHeaders Access::headers_for(const HttpRequest& request) const {
  const std::string_view origin = request.header("origin");
  if (!is_named(origin)) return {};
  HttpHeaders headers = {{"Access-Control-Allow-Origin", std::string(origin)}, {"Vary", "Origin"}};
  if (is_preflight(request)) {
    headers.emplace_back("Access-Control-Allow-Methods", "GET, POST");
    const std::string_view wanted = request.header("access-control-request-headers");
    if (!wanted.empty()) headers.emplace_back("Access-Control-Allow-Headers", std::string(wanted));
    headers.emplace_back("Access-Control-Max-Age", "600");
  }
  return headers;
}

std::string Access::client_of(const HttpRequest& request) {
  const auto owner = owner_of(request);
  return owner ? std::format("key {}", *owner) : request.client;
}

}  // namespace baton::serve
