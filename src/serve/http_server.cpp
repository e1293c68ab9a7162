#include "serve/http_server.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <format>
#include <thread>

#include <boost/asio/cancel_after.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "base/ascii.h"
#include "base/log.h"
#include "base/thread.h"
#include "net/acceptor.h"

namespace baton::serve {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

auto into(error_code& error) { return asio::redirect_error(asio::use_awaitable, error); }
// What takes longer ends with operation_aborted, and the connection can still carry a word about it.
auto served_within(Duration limit, error_code& error) { return asio::cancel_after(limit, into(error)); }

constexpr std::size_t kReadBytes = 4096;
constexpr auto kFarewellTime = std::chrono::seconds(1);

// Many systems let a process have 1,024 unless it asks for more.
void allow_descriptors(std::size_t connections) {
  constexpr rlim_t kOthers = 256;  // files, other nodes, helpers
  const rlim_t wanted = connections + kOthers;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted) {
    log::warning("this process may have {} open files, too few for {} connections: raise the limit (ulimit -Hn)",
                 limit.rlim_cur, connections);
  }
}

// What a broken request is told; nothing where there is nobody to tell.
std::optional<HttpServer::Refusal> refusal_for(const error_code& error, bool reading_body) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return HttpServer::Refusal{431, "the request's header is too long"};
  }
  if (error == http::error::body_limit) return HttpServer::Refusal{413, "the request's body is too long"};
  if (error == asio::error::operation_aborted) {
    return HttpServer::Refusal{408, reading_body ? "the body did not come in time" : "the header did not come in time"};
  }
  if (error == http::error::bad_version) return HttpServer::Refusal{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
  if (error.category() == http::make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return HttpServer::Refusal{400, std::format("the request is not HTTP: {}", error.message())};
  }
  return std::nullopt;
}

// An answer and its connection's coroutine, which waits for more of it.
class Reply : public HttpReply {
 public:
  Reply(asio::io_context& context, std::size_t unread_limit)
      : wake_(std::in_place, context), unread_limit_(unread_limit) {
    wake_->expires_at(asio::steady_timer::time_point::max());
  }

  void send(int of_status, std::string_view of_type, std::string body, HttpHeaders of_headers) override {
    if (begun_ || gone_) return;
    begin_with(of_status, of_type, std::move(of_headers));
    whole_ = true;
    queue(std::move(body));
    ended_ = true;
  }
  void begin(int of_status, std::string_view of_type, HttpHeaders of_headers) override {
    if (begun_ || gone_) return;
    begin_with(of_status, of_type, std::move(of_headers));
    wake();
  }
  void write(std::string piece) override {
    if (ended_ || gone_ || piece.empty()) return;
    queue(std::move(piece));
    if (unread_bytes_ > unread_limit_) leave();
  }
  void end() override {
    ended_ = true;
    wake();
  }
  bool begun() const override { return begun_; }
  bool gone() const override { return gone_; }
  void on_gone(std::function<void()> task) override { on_gone_ = std::move(task); }

  // The client is not there any more.
  void leave() {
    if (gone_ || (ended_ && pieces_.empty())) return;
    gone_ = true;
    pieces_.clear();
    wake();
    if (const auto task = std::exchange(on_gone_, nullptr)) task();
  }
  // The connection is done with it; whoever still holds it may do so longer than the server lives.
  void detach() {
    leave();
    on_gone_ = nullptr;
    wake_.reset();
  }

  // All of it has come, and the rest of it only has to be sent.
  bool ended() const { return ended_ && !gone_; }
  bool ready() const { return gone_ || (begun_ && (!pieces_.empty() || ended_ || !header_sent)); }
  bool finished() const { return gone_ || (ended_ && pieces_.empty() && header_sent); }
  asio::steady_timer& changed() { return *wake_; }
  std::string take() {
    std::string all;
    for (std::string& piece : pieces_) all += piece;
    pieces_.clear();
    unread_bytes_ = 0;
    return all;
  }

  int status() const { return status_; }
  const std::string& content_type() const { return content_type_; }
  const HttpHeaders& headers() const { return headers_; }
  bool is_whole() const { return whole_; }

  bool header_sent = false;

 private:
  void begin_with(int of_status, std::string_view of_type, HttpHeaders of_headers) {
    begun_ = true;
    status_ = of_status;
    content_type_ = of_type;
    headers_ = std::move(of_headers);
  }
  void queue(std::string piece) {
    unread_bytes_ += piece.size();
    pieces_.push_back(std::move(piece));
    wake();
  }

  void wake() {
    if (wake_) wake_->cancel();
  }

  std::optional<asio::steady_timer> wake_;
  const std::size_t unread_limit_;
  std::deque<std::string> pieces_;
  std::size_t unread_bytes_ = 0;
  int status_ = 0;
  std::string content_type_;
  HttpHeaders headers_;
  bool begun_ = false;
  bool whole_ = false;
  bool ended_ = false;
  bool gone_ = false;
  std::function<void()> on_gone_;
};

template <typename Message>
void add_headers(Message& message, const HttpHeaders& headers) {
  for (const auto& [name, value] : headers) message.set(name, value);
}

template <typename Message>
void set_headers(Message& message, int status, std::string_view content_type, const HttpHeaders& headers) {
  message.result(static_cast<unsigned>(status));
  message.set(http::field::server, "baton");
  message.set(http::field::cache_control, "no-store");
  message.set("X-Content-Type-Options", "nosniff");
  if (!content_type.empty()) message.set(http::field::content_type, content_type);
  add_headers(message, headers);
}

}  // namespace

std::string_view HttpRequest::header(std::string_view lower_case_name) const {
  const auto found = std::ranges::find(headers, lower_case_name, &std::pair<std::string, std::string>::first);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

std::string percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t at = 0; at < text.size(); ++at) {
    unsigned value = 0;
    const char* const digits = text.data() + at + 1;
    const bool encoded =
        text[at] == '%' && text.size() - at > 2 && std::from_chars(digits, digits + 2, value, 16).ptr == digits + 2;
    decoded += encoded ? static_cast<char>(value) : text[at];
    if (encoded) at += 2;
  }
  return decoded;
}

struct HttpServer::Impl {
  explicit Impl(Options given) : options(std::move(given)) {}

  // One connection, from its first byte to its last. Owned by its coroutine; listed, so that the end of the server ends
  // it.
  struct Connection {
    explicit Connection(tcp::socket accepted) : socket(std::move(accepted)) {}
    tcp::socket socket;
    beast::flat_buffer buffer;
    std::string client;
    std::string path;            // of the request; empty until its header has been read
    HttpHeaders common_headers;  // of answers to it
    BodyRoom::Share body_room;   // of its body, while that is read
    std::shared_ptr<Reply> reply;
  };

  Result<net::Endpoint> listen_at(const net::Endpoint& listen);

  asio::awaitable<void> accept_all(tcp::acceptor& acceptor) {
    while (true) {
      error_code error;
      tcp::socket socket = co_await acceptor.async_accept(into(error));
      if (!acceptor.is_open()) co_return;
      if (error) {
        // Out of descriptors: connections that end will free some.
        log::warning("cannot accept a connection: {}", error.message());
        asio::steady_timer pause(context, std::chrono::milliseconds(100));
        co_await pause.async_wait(into(error));
        continue;
      }
      asio::co_spawn(context, serve(std::make_shared<Connection>(std::move(socket))), asio::detached);
    }
  }

  asio::awaitable<void> serve(std::shared_ptr<Connection> connection) {
    connections.push_back(connection);
    error_code error;
    connection->client = connection->socket.remote_endpoint(error).address().to_string();
    connection->socket.set_option(tcp::no_delay(true), error);
    // What one request asks too much for (memory, say) ends its connection, not the server.
    try {
      if (connections.size() > options.limits.connections) {
        const Refusal full{503, "there are too many connections", {{"Retry-After", "1"}}};
        co_await refuse(*connection, full);
      } else {
        for (bool first = true; co_await serve_request(connection, first) && !closing; first = false) {}
      }
    } catch (const std::exception& exception) {
      log::error("a client's connection ends: {}", exception.what());
      if (connection->reply) connection->reply->detach();
    }
    std::erase(connections, connection);
    if (closing && connections.empty()) farewell.cancel();
    connection->socket.shutdown(tcp::socket::shutdown_send, error);
    connection->socket.close(error);
  }

  // Whether the connection may carry another.
  asio::awaitable<bool> serve_request(const std::shared_ptr<Connection>& shared, bool first) {
    Connection& connection = *shared;
    const HttpLimits& limits = options.limits;
    http::request_parser<http::string_body> parser;
    parser.header_limit(static_cast<std::uint32_t>(limits.header_bytes));
    parser.body_limit(limits.body_bytes);
    error_code error;
    if (connection.buffer.size() == 0 && !first) {
      const std::size_t got = co_await connection.socket.async_read_some(connection.buffer.prepare(kReadBytes),
                                                                         served_within(limits.idle_time, error));
      connection.buffer.commit(got);
      if (error) co_return false;
    }
    connection.path.clear();
    connection.common_headers.clear();
    co_await http::async_read_header(connection.socket, connection.buffer, parser,
                                     served_within(limits.header_time, error));
    if (error) {
      if (const auto refusal = refusal_for(error, false)) co_await refuse(connection, *refusal);
      co_return false;
    }
    HttpRequest request = without_body(parser.get(), connection.client);
    connection.path = request.path;
    connection.common_headers = options.common_headers(request);
    if (const auto refusal = check_header(connection, parser, request)) {
      co_await refuse(connection, *refusal);
      co_return false;
    }
    if (request.header("expect") == "100-continue") {
      http::response<http::empty_body> go_on(http::status::continue_, 11);
      co_await http::async_write(connection.socket, go_on, served_within(limits.write_time, error));
      if (error) co_return false;
    }
    co_await http::async_read(connection.socket, connection.buffer, parser, served_within(limits.body_time, error));
    if (error) {
      if (const auto refusal = refusal_for(error, true)) co_await refuse(connection, *refusal);
      co_return false;
    }
    const unsigned version = parser.get().version();
    const bool keep_alive = parser.keep_alive();
    const bool head = parser.get().method() == http::verb::head;
    request.body = std::move(parser.get().body());
    connection.body_room.shrink_to(request.body.size());
    request.body_room = std::exchange(connection.body_room, {});
    connection.reply = std::make_shared<Reply>(context, limits.unread_bytes);
    const auto reply = connection.reply;
    options.handler(std::move(request), reply);
    watch_for_end(shared);
    const bool sent = co_await send_reply(connection, *reply, version, keep_alive, head);
    connection.socket.cancel(error);
    reply->detach();
    connection.reply.reset();
    const bool may_go_on = sent && keep_alive;
    co_return may_go_on;
  }

  template <typename Parser>
  std::optional<Refusal> check_header(Connection& connection, const Parser& parser, const HttpRequest& request) {
    const unsigned version = parser.get().version();
    if (version != 10 && version != 11) return Refusal{505, "only HTTP/1.0 and HTTP/1.1 are spoken here"};
    if (version == 11 && request.header("host").empty()) return Refusal{400, "HTTP/1.1 needs a Host header"};
    if (auto refusal = options.gate(request)) return refusal;
    const std::uint64_t announced = parser.content_length().value_or(0);
    if (announced > options.limits.body_bytes) {
      return Refusal{413,
                     std::format("the body has {} bytes, and {} are allowed", announced, options.limits.body_bytes)};
    }
    // Who does not say how long the body will be may make use of the limit.
    auto room = bodies.take(parser.chunked() ? options.limits.body_bytes : announced);
    if (!room) return Refusal{503, "too many large requests are being read", {{"Retry-After", "1"}}};
    connection.body_room = *std::move(room);
    return std::nullopt;
  }

  template <typename Message>
  static HttpRequest without_body(const Message& message, const std::string& client) {
    HttpRequest request;
    request.method = message.method_string();
    const std::string_view target = message.target();
    const std::size_t mark = target.find('?');
    request.path = target.substr(0, mark);
    if (mark != std::string_view::npos) request.query = target.substr(mark + 1);
    for (const auto& field : message) request.headers.emplace_back(ascii_lower(field.name_string()), field.value());
    request.client = client;
    return request;
  }

  // While an answer is being made no further request is served; but a client that hangs up is to be noticed, even
  // behind the beginning of its next request.
  static void watch_for_end(const std::shared_ptr<Connection>& connection) {
    connection->socket.async_wait(
        tcp::socket::wait_read, [connection, reply = connection->reply](const error_code& error) {
          if (error || connection->reply != reply) return;
          const std::size_t room = kReadBytes - std::min(kReadBytes, connection->buffer.size());
          const auto space = connection->buffer.prepare(room);
          const ssize_t got = ::recv(connection->socket.native_handle(), space.data(), space.size(), MSG_DONTWAIT);
          const bool nothing_yet = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
          if (room == 0 || (got <= 0 && !nothing_yet)) return reply->leave();
          if (got > 0) connection->buffer.commit(static_cast<std::size_t>(got));
          watch_for_end(connection);
        });
  }

  asio::awaitable<bool> send_reply(Connection& connection, Reply& reply, unsigned version, bool keep_alive, bool head) {
    error_code error;
    const bool chunked = version >= 11 && !reply.is_whole();
    while (!reply.finished()) {
      if (!reply.ready()) {
        co_await reply.changed().async_wait(into(error));
        continue;
      }
      if (reply.is_whole()) {
        http::response<http::string_body> response;
        response.version(version);
        set_headers(response, reply.status(), reply.content_type(), reply.headers());
        add_headers(response, connection.common_headers);
        response.keep_alive(keep_alive);
        response.body() = reply.take();
        response.prepare_payload();
        // It would be that of a body which is not sent (RFC 9110, 8.6).
        if (response.result() == http::status::not_modified) response.erase(http::field::content_length);
        if (head) response.body().clear();
        reply.header_sent = true;
        http::response_serializer<http::string_body> serializer(response);
        if (head) {
          co_await http::async_write_header(connection.socket, serializer,
                                            served_within(options.limits.write_time, error));
        } else {
          co_await http::async_write(connection.socket, serializer, served_within(options.limits.write_time, error));
        }
      } else if (!reply.header_sent) {
        http::response<http::empty_body> response;
        response.version(version);
        set_headers(response, reply.status(), reply.content_type(), reply.headers());
        add_headers(response, connection.common_headers);
        response.keep_alive(keep_alive && chunked);
        response.chunked(chunked);
        reply.header_sent = true;
        http::response_serializer<http::empty_body> serializer(response);
        co_await http::async_write_header(connection.socket, serializer,
                                          served_within(options.limits.write_time, error));
      } else {
        const std::string piece = reply.take();
        if (piece.empty()) continue;
        if (chunked) {
          co_await asio::async_write(connection.socket, http::make_chunk(asio::buffer(piece)),
                                     served_within(options.limits.write_time, error));
        } else {
          co_await asio::async_write(connection.socket, asio::buffer(piece),
                                     served_within(options.limits.write_time, error));
        }
      }
      if (error) reply.leave();
    }
    if (reply.gone()) co_return false;
    if (reply.is_whole()) co_return true;
    if (!chunked) co_return false;
    co_await asio::async_write(connection.socket, http::make_chunk_last(),
                               served_within(options.limits.write_time, error));
    co_return !error;
  }

  asio::awaitable<void> refuse(Connection& connection, const Refusal& refusal) {
    http::response<http::string_body> response;
    response.version(11);
    HttpHeaders headers = refusal.headers;
    ErrorBody described = options.describe_error(connection.path, refusal.status, refusal.message);
    set_headers(response, refusal.status, described.content_type, headers);
    add_headers(response, connection.common_headers);
    response.keep_alive(false);
    response.body() = std::move(described.body);
    response.prepare_payload();
    error_code error;
    co_await http::async_write(connection.socket, response, served_within(options.limits.write_time, error));
    if (error) co_return;
    // What the client still sends is read for a moment, so that our words are not lost in a reset connection.
    connection.socket.shutdown(tcp::socket::shutdown_send, error);
    const TimePoint until = now() + Duration(kFarewellTime);
    char thrown_away[kReadBytes];
    while (!error && now() < until) {
      co_await connection.socket.async_read_some(asio::buffer(thrown_away), served_within(until - now(), error));
    }
  }

  // On the server's thread. Answers that are complete get a moment to be sent.
  void close() {
    error_code error;
    closing = true;
    work.reset();
    for (tcp::acceptor& acceptor : acceptors) acceptor.close(error);
    end_connections([](const Connection& connection) { return !connection.reply || !connection.reply->ended(); });
    if (connections.empty()) return;
    farewell.expires_after(kFarewellTime);
    farewell.async_wait([this](const error_code& cancelled) {
      if (!cancelled) end_connections([](const Connection&) { return true; });
    });
  }

  template <typename Predicate>
  void end_connections(Predicate which) {
    error_code error;
    const auto all = connections;
    for (const auto& connection : all) {
      if (!which(*connection)) continue;
      if (connection->reply) connection->reply->leave();
      connection->socket.close(error);
    }
  }

  const Options options;
  BodyRoom bodies{options.limits.all_bodies_bytes};
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(context);
  std::deque<tcp::acceptor> acceptors;  // where they are, coroutines use them
  net::Endpoint endpoint;               // of the first
  std::vector<std::shared_ptr<Connection>> connections;
  bool closing = false;
  asio::steady_timer farewell{context};
  std::jthread thread;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<net::Endpoint> HttpServer::Impl::listen_at(const net::Endpoint& listen) {
  tcp::acceptor& acceptor = acceptors.emplace_back(TRY(net::open_acceptor(context, listen)));
  error_code error;
  const tcp::endpoint local = acceptor.local_endpoint(error);
  asio::co_spawn(context, accept_all(acceptor), asio::detached);
  return net::Endpoint{local.address().to_string(), local.port()};
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(Options options) {
  allow_descriptors(options.limits.connections);
  auto impl = std::make_unique<Impl>(std::move(options));
  impl->endpoint = TRY(impl->listen_at(impl->options.listen));
  for (const net::Endpoint& endpoint : impl->options.listen_too) TRY(impl->listen_at(endpoint));
  impl->thread = std::jthread([raw = impl.get()] {
    name_this_thread("http");
    raw->context.run();
  });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::~HttpServer() {
  // The coroutines see their sockets closed, and end; then so does the thread.
  asio::post(impl_->context, [impl = impl_.get()] { impl->close(); });
  impl_->thread.join();
}

net::Endpoint HttpServer::endpoint() const { return impl_->endpoint; }

void HttpServer::post(std::move_only_function<void()> task) { asio::post(impl_->context, std::move(task)); }

}  // namespace baton::serve
