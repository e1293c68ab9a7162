// A client for HTTP/1.1 (RFC 9112) over TCP or TLS: one GET at a time, with redirects, proxies and deadlines.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "store/url.h"

namespace baton::store {

// Where a request goes by way of a proxy.
struct ProxySettings {
  std::string http = {};                // of http:// addresses, such as "http://proxy:3128"; empty: none
  std::string https = {};               // of https:// addresses, by CONNECT
  std::vector<std::string> never = {};  // hosts and ".endings" that are reached directly; "*" for all

  // http_proxy, https_proxy, all_proxy and no_proxy, in lower case before upper (HTTP_PROXY alone is not read: in a CGI
  // program a stranger sets it).
  static ProxySettings from_environment();
  // The proxy for this address; nothing where it is reached directly.
  std::optional<std::string> proxy_for(const Url& url) const;
};

struct HttpOptions {
  ProxySettings proxies = ProxySettings::from_environment();
  Duration connect_timeout = std::chrono::seconds(20);
  Duration silence_timeout = std::chrono::seconds(30);  // between two pieces of an answer
  int max_redirects = 8;
  std::string user_agent = "baton";
};

struct HttpRequest {
  Url url;
  std::map<std::string, std::string> headers = {};
  // Sent to the url's own origin only, not to where it redirects elsewhere; over TLS, or to this machine.
  std::string bearer_token = {};
};

struct HttpHead {
  int status = 0;
  std::map<std::string, std::string> headers = {};  // names in lower case
  Url url = {};                                     // that answered, after redirects
  // What the redirects on the way said with these names, which their target does not repeat.
  std::map<std::string, std::string> linked = {};

  bool ok() const { return status >= 200 && status < 300; }
  std::string_view header(const std::string& name) const;
  std::optional<std::uint64_t> content_length() const;
};

struct HttpAnswer {
  HttpHead head;
  std::string body;
};

// Certificates are checked against the system's roots (OpenSSL's default places, and SSL_CERT_FILE and SSL_CERT_DIR)
// and the host's name, with TLS 1.2 or later. Every call makes its own connection. One thread at a time may use it.
// Errors: kUnavailable where nobody answers or the answer is cut short, kTimeout, kRefused for a certificate or a proxy
// that says no, kProtocol for what is not HTTP, kCancelled.
class HttpClient {
 public:
  explicit HttpClient(HttpOptions options, std::stop_token stop = {})
      : options_(std::move(options)), stop_(std::move(stop)) {}

  // The whole body, kNoCapacity where it is longer than `max_bytes`. Whatever the status.
  Result<HttpAnswer> fetch(const HttpRequest& request, std::size_t max_bytes);

  // Tells the head, and where that has a status of 2xx the body piece by piece. An error from either ends it.
  using OnHead = std::function<Result<void>(const HttpHead&)>;
  using OnPiece = std::function<Result<void>(ByteSpan)>;
  Result<HttpHead> stream(const HttpRequest& request, const OnHead& on_head, const OnPiece& on_piece);

 private:
  // One answer, not following it anywhere. `on_head` says whether its body is wanted.
  enum class Body { kWanted, kLeft };
  using Decide = std::function<Result<Body>(HttpHead&)>;
  Result<HttpHead> exchange(const HttpRequest& request, const Url& url, const Decide& decide, const OnPiece& on_piece);
  Result<HttpHead> follow(const HttpRequest& request, const Decide& decide, const OnPiece& on_piece);

  HttpOptions options_;
  std::stop_token stop_;
};

}  // namespace baton::store
