#include "store/http_client.h"

#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <charconv>
#include <cstdlib>
#include <format>
#include <utility>

#include "base/ascii.h"
#include "net/loopback.h"

namespace baton::store {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using TlsStream = asio::ssl::stream<beast::tcp_stream>;

constexpr std::size_t kPieceBytes = 256 * 1024;
constexpr std::uint32_t kMaxHeaderBytes = 64 * 1024;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string first_of(const char* one, const char* other) {
  const std::string value = environment(one);
  return value.empty() ? environment(other) : value;
}

// Runs one asynchronous operation after the other on a loop of its own, so that each has a deadline and can be stopped.
class Conversation {
 public:
  Conversation(const HttpOptions& options, const Url& url, std::stop_token stop)
      : options_(options), url_(url), stop_(std::move(stop)), stream_(context_) {}

  Result<HttpHead> run(const HttpRequest& request, const std::function<Result<bool>(HttpHead&)>& wants_body,
                       const HttpClient::OnPiece& on_piece) {
    // From whichever thread asks for it: the operation under way ends.
    const std::stop_callback on_stop(stop_, [this] {
      asio::post(context_, [this] {
        if (active_ != nullptr) active_->cancel();
      });
    });
    const std::optional<std::string> proxy = options_.proxies.proxy_for(url_);
    TRY(connect(proxy ? TRY(Url::parse(*proxy)) : url_));
    if (url_.scheme == Scheme::kHttp) {
      return exchange(stream_, request, proxy ? url_.to_string() : url_.target, wants_body, on_piece);
    }
    if (proxy) TRY(open_tunnel(*proxy));
    asio::ssl::context tls(asio::ssl::context::tls_client);
    SSL_CTX_set_min_proto_version(tls.native_handle(), TLS1_2_VERSION);
    error_code error;
    tls.set_default_verify_paths(error);
    if (error) return fail(ErrorCode::kIo, "cannot read the system's certificates: " + error.message());
    tls.set_verify_mode(asio::ssl::verify_peer);
    TlsStream stream(std::move(stream_), tls);
    active_ = &stream.next_layer();
    const auto result = [&]() -> Result<HttpHead> {
      TRY(greet(stream));
      return exchange(stream, request, url_.target, wants_body, on_piece);
    }();
    active_ = nullptr;
    return result;
  }

 private:
  template <typename Start>
  error_code wait(Start start) {
    if (stop_.stop_requested()) return asio::error::operation_aborted;
    error_code outcome;
    bool done = false;
    start([&](const error_code& error, auto&&...) {
      outcome = error;
      done = true;
    });
    context_.restart();
    while (!done) context_.run_one();
    return outcome;
  }

  std::unexpected<Error> failure(std::string_view action, const error_code& error) const {
    if (stop_.stop_requested()) return fail(ErrorCode::kCancelled, "stopped", url_.authority());
    if (error == beast::error::timeout) {
      return fail(ErrorCode::kTimeout, std::format("cannot {}: nothing came for too long", action), url_.authority());
    }
    const bool not_http = error.category() == http::make_error_code(http::error::bad_version).category() &&
                          error != http::error::end_of_stream && error != http::error::partial_message;
    return fail(not_http ? ErrorCode::kProtocol : ErrorCode::kUnavailable,
                std::format("cannot {}: {}", action, error.message()), url_.authority());
  }

  Result<void> connect(const Url& target) {
    tcp::resolver resolver(context_);
    asio::steady_timer deadline(context_, options_.connect_timeout);
    deadline.async_wait([&](const error_code& error) {
      if (!error) resolver.cancel();
    });
    tcp::resolver::results_type addresses;
    const error_code not_found = wait([&](auto done) {
      resolver.async_resolve(target.host, std::to_string(target.port),
                             [&addresses, done](const error_code& error, const tcp::resolver::results_type& found) {
                               addresses = found;
                               done(error);
                             });
    });
    deadline.cancel();
    if (not_found) return failure(std::format("find the host {}", target.host), not_found);
    stream_.expires_after(options_.connect_timeout);
    const error_code error = wait([&](auto done) { stream_.async_connect(addresses, done); });
    if (error) return failure(std::format("connect to {}", target.authority()), error);
    return {};
  }

  // RFC 9110, section 9.3.6.
  Result<void> open_tunnel(const std::string& proxy) {
    const std::string authority = url_.host.contains(':') ? std::format("[{}]:{}", url_.host, url_.port)
                                                          : std::format("{}:{}", url_.host, url_.port);
    http::request<http::empty_body> request(http::verb::connect, authority, 11);
    request.set(http::field::host, authority);
    stream_.expires_after(options_.silence_timeout);
    if (const error_code error = wait([&](auto done) { http::async_write(stream_, request, done); })) {
      return failure("ask the proxy " + proxy, error);
    }
    beast::flat_buffer buffer;
    http::response_parser<http::empty_body> parser;
    parser.header_limit(kMaxHeaderBytes);
    parser.skip(true);
    if (const error_code error = wait([&](auto done) { http::async_read_header(stream_, buffer, parser, done); })) {
      return failure("ask the proxy " + proxy, error);
    }
    if (parser.get().result_int() / 100 == 2) return {};
    return fail(ErrorCode::kRefused, std::format("the proxy {} does not connect to {}: status {}", proxy, authority,
                                                 parser.get().result_int()));
  }

  Result<void> greet(TlsStream& stream) {
    stream.set_verify_callback(asio::ssl::host_name_verification(url_.host));
    SSL_set_tlsext_host_name(stream.native_handle(), url_.host.c_str());
    stream.next_layer().expires_after(options_.connect_timeout);
    const error_code error = wait([&](auto done) { stream.async_handshake(asio::ssl::stream_base::client, done); });
    if (!error) return {};
    const long verdict = SSL_get_verify_result(stream.native_handle());
    if (verdict == X509_V_OK || stop_.stop_requested()) return failure("make a secure connection", error);
    return fail(ErrorCode::kRefused,
                std::format("its certificate is not good: {}; SSL_CERT_FILE names more roots to trust",
                            X509_verify_cert_error_string(verdict)),
                url_.authority());
  }

  template <typename Stream>
  Result<HttpHead> exchange(Stream& stream, const HttpRequest& request, const std::string& target,
                            const std::function<Result<bool>(HttpHead&)>& wants_body,
                            const HttpClient::OnPiece& on_piece) {
    http::request<http::empty_body> message(http::verb::get, target, 11);
    message.set(http::field::host, url_.authority());
    message.set(http::field::user_agent, options_.user_agent);
    message.set(http::field::accept_encoding, "identity");
    message.set(http::field::connection, "close");
    for (const auto& [name, value] : request.headers) message.set(name, value);
    const bool may_have_token =
        url_.same_origin(request.url) && (url_.scheme == Scheme::kHttps || net::is_loopback(url_.host));
    if (!request.bearer_token.empty() && may_have_token) {
      message.set(http::field::authorization, "Bearer " + request.bearer_token);
    }
    auto& socket = beast::get_lowest_layer(stream);
    socket.expires_after(options_.silence_timeout);
    if (const error_code error = wait([&](auto done) { http::async_write(stream, message, done); })) {
      return failure("send a request", error);
    }
    beast::flat_buffer buffer;
    http::response_parser<http::buffer_body> parser;
    parser.header_limit(kMaxHeaderBytes);
    parser.body_limit(boost::none);
    if (const error_code error = wait([&](auto done) { http::async_read_header(stream, buffer, parser, done); })) {
      return failure("read an answer", error);
    }
    HttpHead head{.status = static_cast<int>(parser.get().result_int()), .url = url_};
    for (const auto& field : parser.get()) head.headers[ascii_lower(field.name_string())] = field.value();
    if (!TRY(wants_body(head))) return head;
    Bytes piece(kPieceBytes);
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      socket.expires_after(options_.silence_timeout);
      error_code error = wait([&](auto done) { http::async_read_some(stream, buffer, parser, done); });
      if (error == http::error::need_buffer) error = {};
      const std::size_t size = piece.size() - parser.get().body().size;
      if (size > 0) TRY(on_piece(ByteSpan(piece).first(size)));
      if (error) return failure("read an answer to its end", error);
    }
    return head;
  }

  const HttpOptions& options_;
  const Url url_;
  std::stop_token stop_;
  asio::io_context context_{1};
  beast::tcp_stream stream_;
  beast::tcp_stream* active_ = &stream_;  // whose operation a stop ends
};

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace

ProxySettings ProxySettings::from_environment() {
  ProxySettings settings;
  const std::string all = first_of("all_proxy", "ALL_PROXY");
  settings.http = environment("http_proxy");
  settings.https = first_of("https_proxy", "HTTPS_PROXY");
  if (settings.http.empty()) settings.http = all;
  if (settings.https.empty()) settings.https = all;
  std::string list = first_of("no_proxy", "NO_PROXY");
  std::erase(list, ' ');
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) settings.never.push_back(ascii_lower(list.substr(begin, end - begin)));
    begin = end + 1;
  }
  return settings;
}

std::optional<std::string> ProxySettings::proxy_for(const Url& url) const {
  const std::string& proxy = url.scheme == Scheme::kHttps ? https : http;
  if (proxy.empty() || net::is_loopback(url.host)) return std::nullopt;
  for (const std::string& entry : never) {
    if (entry == "*" || entry == url.host) return std::nullopt;
    const std::string ending = entry.starts_with('.') ? entry : "." + entry;
    if (url.host.ends_with(ending)) return std::nullopt;
  }
  return proxy.contains("://") ? proxy : "http://" + proxy;
}

std::string_view HttpHead::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

std::optional<std::uint64_t> HttpHead::content_length() const {
  const std::string_view text = header("content-length");
  std::uint64_t bytes = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return bytes;
}

Result<HttpHead> HttpClient::exchange(const HttpRequest& request, const Url& url, const Decide& decide,
                                      const OnPiece& on_piece) {
  Conversation conversation(options_, url, stop_);
  const auto wants_body = [&](HttpHead& head) -> Result<bool> {
    return TRY(decide(head))
    == Body::kWanted;
  };
  return conversation.run(request, wants_body, on_piece);
}

Result<HttpHead> HttpClient::follow(const HttpRequest& request, const Decide& decide, const OnPiece& on_piece) {
  Url url = request.url;
  std::map<std::string, std::string> linked;
  for (int hop = 0; hop <= options_.max_redirects; ++hop) {
    const auto unless_redirect = [&](HttpHead& head) -> Result<Body> {
      if (is_redirect(head.status) && !head.header("location").empty()) return Body::kLeft;
      head.linked = linked;
      return decide(head);
    };
    const HttpHead head = TRY(exchange(request, url, unless_redirect, on_piece));
    if (!is_redirect(head.status) || head.header("location").empty()) return head;
    const Url next = TRY(url.resolve(head.header("location")));
    if (url.scheme == Scheme::kHttps && next.scheme == Scheme::kHttp) {
      return fail(ErrorCode::kRefused, std::format("it redirects to {}, which is not secure", next.authority()),
                  url.authority());
    }
    for (const auto& [name, value] : head.headers) {
      if (name.starts_with("x-linked-") || name.starts_with("x-repo-")) linked[name] = value;
    }
    url = next;
  }
  return fail(ErrorCode::kProtocol, std::format("it redirects more than {} times", options_.max_redirects),
              request.url.authority());
}

Result<HttpAnswer> HttpClient::fetch(const HttpRequest& request, std::size_t max_bytes) {
  HttpAnswer answer;
  const auto all = [](HttpHead&) -> Result<Body> { return Body::kWanted; };
  const auto keep = [&](ByteSpan piece) -> Result<void> {
    if (answer.body.size() + piece.size() > max_bytes) {
      return fail(ErrorCode::kNoCapacity, std::format("its answer is longer than {} bytes", max_bytes),
                  request.url.authority());
    }
    answer.body.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    return {};
  };
  answer.head = TRY(follow(request, all, keep));
  return answer;
}

Result<HttpHead> HttpClient::stream(const HttpRequest& request, const OnHead& on_head, const OnPiece& on_piece) {
  const auto only_good = [&](HttpHead& head) -> Result<Body> {
    TRY(on_head(head));
    return head.ok() ? Body::kWanted : Body::kLeft;
  };
  return follow(request, only_good, on_piece);
}

}  // namespace baton::store
