#include "store/url.h"

#include <algorithm>
#include <charconv>
#include <format>

#include "base/ascii.h"

namespace baton::store {

namespace {

constexpr std::size_t kMaxUrlBytes = 16 * 1024;  // signed addresses of storage are long

bool is_host_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

std::uint16_t default_port(Scheme scheme) { return scheme == Scheme::kHttps ? 443 : 80; }

std::unexpected<Error> not_an_address(std::string_view text, std::string_view why) {
  std::string shown;
  for (const char c : text.substr(0, 200)) shown += c >= ' ' && c <= '~' ? c : '?';
  return fail(ErrorCode::kInvalidArgument, std::format("'{}' is no http address: {}", shown, why));
}

}  // namespace

Result<Url> Url::parse(std::string_view text) {
  if (text.size() > kMaxUrlBytes) return not_an_address(text, "it is too long");
  if (!std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; })) {
    return not_an_address(text, "it holds a character that has to be written with %");
  }
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    url.scheme = Scheme::kHttp;
    rest.remove_prefix(7);
  } else {
    return not_an_address(text, "it has to begin with https:// or http://");
  }
  rest = rest.substr(0, rest.find('#'));
  const std::size_t slash = rest.find_first_of("/?");
  std::string_view authority = rest.substr(0, slash);
  if (slash != std::string_view::npos) {
    url.target = rest.substr(slash);
    if (url.target.front() == '?') url.target.insert(0, "/");
  }
  if (authority.contains('@')) return not_an_address(text, "names and passwords in it are not supported");
  url.port = default_port(url.scheme);
  std::string_view port;
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    if (end == std::string_view::npos) return not_an_address(text, "a bracket is not closed");
    url.host = authority.substr(1, end - 1);
    if (!std::ranges::all_of(url.host, [](char c) { return c == ':' || c == '.' || is_host_char(c); })) {
      return not_an_address(text, "its host is no IPv6 address");
    }
    port = authority.substr(end + 1);
  } else {
    const std::size_t colon = authority.find(':');
    url.host = ascii_lower(authority.substr(0, colon));
    if (!std::ranges::all_of(url.host, is_host_char)) return not_an_address(text, "its host is no name");
    port = colon == std::string_view::npos ? std::string_view() : authority.substr(colon);
  }
  if (url.host.empty()) return not_an_address(text, "it has no host");
  if (!port.empty()) {
    const auto [end, error] = std::from_chars(port.data() + 1, port.data() + port.size(), url.port);
    if (port.front() != ':' || error != std::errc() || end != port.data() + port.size() || url.port == 0) {
      return not_an_address(text, "its port is not a number from 1 to 65535");
    }
  }
  return url;
}

Result<Url> Url::resolve(std::string_view location) const {
  if (location.starts_with("https://") || location.starts_with("http://")) return parse(location);
  const std::string scheme_text = scheme == Scheme::kHttps ? "https:" : "http:";
  if (location.starts_with("//")) return parse(scheme_text + std::string(location));
  if (location.starts_with('/')) return parse(scheme_text + "//" + authority() + std::string(location));
  const std::string_view path = std::string_view(target).substr(0, target.find('?'));
  return parse(scheme_text + "//" + authority() + std::string(path.substr(0, path.rfind('/') + 1)) +
               std::string(location));
}

std::string Url::authority() const {
  const std::string name = host.contains(':') ? "[" + host + "]" : host;
  return port == default_port(scheme) ? name : std::format("{}:{}", name, port);
}

std::string Url::to_string() const {
  return std::format("{}://{}{}", scheme == Scheme::kHttps ? "https" : "http", authority(), target);
}

std::string percent_encode_path(std::string_view path) {
  std::string text;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
                       c == '-' || c == '.' || c == '_' || c == '~';
    if (plain) {
      text += c;
    } else {
      text += std::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

}  // namespace baton::store
