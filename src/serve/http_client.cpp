#include "serve/http_client.h"

#include <atomic>
#include <chrono>
#include <format>
#include <optional>

#include <boost/asio/cancel_after.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "base/clock.h"

namespace baton::serve {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kConnectTime = std::chrono::seconds(5);
// The server's own bounds are tighter: for its queue, and for an answer.
constexpr auto kSilenceTime = std::chrono::minutes(35);
constexpr std::uint64_t kMostErrorBytes = 1 << 20;

auto within(Duration limit, error_code& error) {
  return asio::cancel_after(limit, asio::redirect_error(asio::use_awaitable, error));
}

}  // namespace

struct HttpClient::Impl {
  net::Endpoint server;
  asio::io_context context;
  tcp::socket socket{context};            // of the request that is under way
  std::atomic<std::uint64_t> number = 0;  // of that request
  bool cancelled = false;                 // that one; on the thread that sends it

  std::unexpected<Error> failed(const error_code& error, std::string_view doing) const {
    const std::string where = server.to_string();
    if (cancelled) return fail(ErrorCode::kCancelled, "the request was ended", where);
    if (error == asio::error::operation_aborted) return fail(ErrorCode::kTimeout, "the server says nothing", where);
    const bool is_http = error.category() == http::make_error_code(http::error::bad_method).category();
    const bool ended = error == http::error::end_of_stream || error == http::error::partial_message;
    return fail(is_http && !ended ? ErrorCode::kProtocol : ErrorCode::kUnavailable,
                std::format("{} failed: {}", doing, error.message()), where);
  }

  asio::awaitable<Result<Answer>> send(const ClientRequest& asked, const OnPiece& on_piece) {
    error_code error;
    tcp::resolver resolver(context);
    const auto addresses =
        co_await resolver.async_resolve(server.host, std::to_string(server.port), within(kConnectTime, error));
    if (!error && !cancelled) co_await asio::async_connect(socket, addresses, within(kConnectTime, error));
    if (error || cancelled) co_return failed(error, "connecting");

    http::request<http::string_body> request(http::string_to_verb(asked.method), asked.path, 11, asked.body);
    request.set(http::field::host, server.to_string());
    request.set(http::field::content_type, "application/json");
    request.set(http::field::connection, "close");
    if (!asked.key.empty()) request.set(http::field::authorization, "Bearer " + asked.key);
    request.prepare_payload();
    co_await http::async_write(socket, request, within(kSilenceTime, error));
    if (error || cancelled) co_return failed(error, "asking");

    beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    Answer answer;
    while (!parser.is_done()) {
      co_await http::async_read_some(socket, buffer, parser, within(kSilenceTime, error));
      if (error || cancelled) co_return failed(error, "reading the answer");
      if (!parser.is_header_done()) continue;
      answer.status = static_cast<int>(parser.get().result_int());
      std::string& body = parser.get().body();
      if (answer.status == 200) {
        if (!body.empty()) on_piece(body);
        body.clear();
      } else if (body.size() > kMostErrorBytes) {
        co_return fail(ErrorCode::kProtocol, "the server's error does not end", server.to_string());
      }
    }
    answer.body = std::move(parser.get().body());
    co_return answer;
  }
};

HttpClient::HttpClient(net::Endpoint server) : impl_(std::make_unique<Impl>(std::move(server))) {}

HttpClient::~HttpClient() = default;

Result<HttpClient::Answer> HttpClient::send(const ClientRequest& request, const OnPiece& on_piece) {
  ++impl_->number;
  impl_->cancelled = false;
  impl_->context.restart();
  std::optional<Result<Answer>> result;
  asio::co_spawn(
      impl_->context, [&]() -> asio::awaitable<void> { result = co_await impl_->send(request, on_piece); },
      asio::detached);
  impl_->context.run();
  error_code ignored;
  impl_->socket.close(ignored);
  return *std::move(result);
}

void HttpClient::cancel() {
  asio::post(impl_->context, [impl = impl_.get(), number = impl_->number.load()] {
    if (impl->number != number) return;
    impl->cancelled = true;
    error_code ignored;
    impl->socket.close(ignored);
  });
}

}  // namespace baton::serve
