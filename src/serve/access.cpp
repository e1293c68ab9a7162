#include "serve/access.h"

#include <format>

#include <boost/asio/ip/address.hpp>

#include "serve/page.h"

namespace baton::serve {

namespace {

// Takes as long for every wrong key of the same length.
bool same_secret(std::string_view left, std::string_view right) {
  if (left.size() != right.size()) return false;
  unsigned difference = 0;
  for (std::size_t index = 0; index < left.size(); ++index) {
    difference |= static_cast<unsigned char>(left[index]) ^ static_cast<unsigned char>(right[index]);
  }
  return difference == 0;
}

std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

bool is_public(std::string_view path) { return path == "/health" || path == "/ready" || is_page_path(path); }

}  // namespace

bool is_loopback(std::string_view host) {
  if (host == "localhost") return true;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  // A name such as 127.example.org is whoever owns it makes it.
  boost::system::error_code not_an_address;
  const auto address = boost::asio::ip::make_address(host, not_an_address);
  return !not_an_address && address.is_loopback();
}

std::optional<std::size_t> Access::key_of(const HttpRequest& request) const {
  std::string_view given = request.header("x-api-key");
  constexpr std::string_view kBearer = "Bearer ";
  if (const std::string_view header = request.header("authorization"); header.starts_with(kBearer)) {
    given = header.substr(kBearer.size());
  }
  for (std::size_t index = 0; index < keys_.size(); ++index) {
    if (same_secret(given, keys_[index])) return index;
  }
  return std::nullopt;
}

std::optional<HttpServer::Refusal> Access::refuse(const HttpRequest& request) const {
  const std::string_view host = request.header("host");
  const std::string_view origin = request.header("origin");
  if (!origin.empty() && origin != std::format("http://{}", host) && origin != std::format("https://{}", host)) {
    return HttpServer::Refusal{403, std::format("web pages of another origin ('{}') are not answered", origin)};
  }
  if (keys_.empty() && reach_ == Reach::kThisMachine && !host.empty() && !is_loopback(without_port(host))) {
    return HttpServer::Refusal{403, std::format("'{}' is not a name of this machine: ask for localhost", host)};
  }
  if (keys_.empty() || is_public(request.path) || key_of(request)) return std::nullopt;
  return HttpServer::Refusal{
      401, "a key is needed: send 'Authorization: Bearer KEY'", {{"WWW-Authenticate", "Bearer"}}};
}

std::string Access::client_of(const HttpRequest& request) const {
  const auto key = key_of(request);
  return key ? std::format("key {}", *key) : request.client;
}

}  // namespace baton::serve
